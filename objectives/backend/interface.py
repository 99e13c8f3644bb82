"""The interface that each backend's module implements, and the one place that chooses the module.

The backend is Keras' own choice: `KERAS_BACKEND` (tensorflow, jax or torch), tensorflow by default.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from hpo.errors import UsageError
from objectives.backend import environment, jax, tensorflow, torch
from objectives.base import Device

if TYPE_CHECKING:
    import keras

_CPUINFO = Path("/proc/cpuinfo")
_BFLOAT16_FLAGS = frozenset({"avx512_bf16", "amx_bf16"})
"""Processor flags of instructions that multiply bfloat16; without one it is emulated, and slower."""
_BFLOAT16_CAPABILITY = 8.0
"""CUDA compute capability from which GPUs multiply bfloat16 (Ampere)."""

Arrays = tuple[NDArray[Any], ...]
Steps = Callable[[Arrays], dict[str, float]]
"""Function that trains on k batches, arrays of k each, in order; returns the model's metrics since its last
`reset_metrics()`."""
Batch = Callable[..., tuple[Any, Any]]
"""Function that makes images and labels of one batch on the device, given the batch's entry of each array."""


class Backend(Protocol):
    """The functions of a backend's module; none of them imports the backend before it is called."""

    def configure(self, device: Device) -> None:
        """Set threads, determinism and memory limits of this process."""

    def compute_capability(self) -> float:
        """Return the CUDA compute capability of the first visible GPU, e.g. 8.0; 0 without a CUDA GPU."""

    def training_steps(self, model: keras.Model, batch: Batch | None, resident: Sequence[Any]) -> Steps:
        """See `objectives.backend.training_steps`."""

    def forward(self, model: keras.Model) -> Callable[[NDArray[np.uint8]], NDArray[Any]]:
        """See `objectives.backend.forward`."""


BACKENDS: Mapping[str, Backend] = {"tensorflow": tensorflow, "jax": jax, "torch": torch}


def name() -> str:
    """Return the backend in use, or the one that importing Keras would choose."""
    if "keras" in sys.modules:
        import keras

        return str(keras.config.backend())
    return environment.chosen()


def current() -> Backend:
    """Return the module of the backend in use.

    Raises:
        UsageError: Keras uses a backend that cannot train here.
    """
    return backend_named(name())


def backend_named(found: str) -> Backend:
    """Return the module of a backend.

    Raises:
        UsageError: there is no such module.
    """
    if found not in BACKENDS:
        *others, last = BACKENDS
        raise UsageError(f"unknown KERAS_BACKEND {found!r} (use {', '.join(others)} or {last})")
    return BACKENDS[found]


def configure(device: Device, seed: int) -> None:
    """Bind this process to its device and seed all random numbers; call it before the first tensor.

    On a CPU results repeat to the last digit. On a GPU they are seeded but not bitwise repeatable:
    deterministic kernels cost much there, and some operations have none.
    """
    import keras

    environment.bind(device)
    current().configure(device)
    keras.utils.set_random_seed(seed % 2**32)


def precision(device: Device, capability: float | None = None) -> Literal["float32", "bfloat16"]:
    """Return the type that layers compute in on this device: the requested one, or bfloat16 where it is faster.

    On processors bfloat16 was measured to be faster with TensorFlow only. `capability` is the GPU's CUDA compute
    capability; without it the backend is asked, which initializes the GPU.
    """
    if device.precision != "auto":
        return device.precision
    if device.gpu is not None:
        known = current().compute_capability() if capability is None else capability
        return "bfloat16" if known >= _BFLOAT16_CAPABILITY else "float32"
    return "bfloat16" if name() == "tensorflow" and _processor_flags() & _BFLOAT16_FLAGS else "float32"


def training_steps(model: keras.Model, batch: Batch | None = None, resident: Sequence[Any] = ()) -> Steps:
    """Return a function that trains a compiled model for several steps, in one call where the backend can.

    It takes images (k, batch, height, width, channels) and labels (k, batch), or the inputs from which `batch`
    makes both; `batch` gets the arrays of `resident`, which lie on the device, as its first arguments.
    """
    return current().training_steps(model, batch, resident)


def forward(model: keras.Model) -> Callable[[NDArray[np.uint8]], NDArray[Any]]:
    """Return the model's inference as a compiled function of a batch."""
    return current().forward(model)


def _processor_flags() -> frozenset[str]:
    """Return the processor's flags as Linux lists them; empty elsewhere."""
    try:
        lines = _CPUINFO.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return frozenset()
    for line in lines:
        key, _, value = line.partition(":")
        if key.strip() == "flags":
            return frozenset(value.split())
    return frozenset()
