"""The table of backends, and the functions through which objectives and trainers use the one that Keras uses.

The backend is Keras' own choice: `KERAS_BACKEND`, tensorflow by default.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from hpo.errors import UsageError
from objectives.backend.base import Backend
from objectives.backend.jax import Jax
from objectives.backend.lazy_keras import postpone_parts
from objectives.backend.tensorflow import TensorFlow
from objectives.backend.torch import Torch
from objectives.device import Device

BACKENDS: Mapping[str, Backend] = {"tensorflow": TensorFlow(), "jax": Jax(), "torch": Torch()}
"""Names of backends, as `KERAS_BACKEND` has them, to the backends; the first is Keras' default."""

_CPUINFO = Path("/proc/cpuinfo")
_BFLOAT16_FLAGS = frozenset({"avx512_bf16", "amx_bf16"})
"""Processor flags of instructions that multiply bfloat16; without one it is emulated, and slower."""
_BFLOAT16_CAPABILITY = 8.0
"""CUDA compute capability from which GPUs multiply bfloat16 (Ampere)."""


def chosen() -> str:
    """Return the backend that importing Keras would choose: `KERAS_BACKEND`, keras.json or the default."""
    return os.environ.get("KERAS_BACKEND") or _configured() or next(iter(BACKENDS))


def name() -> str:
    """Return the backend in use, or the one that importing Keras would choose."""
    if "keras" in sys.modules:
        import keras

        return str(keras.config.backend())
    return chosen()


def current() -> Backend:
    """Return the backend in use.

    Raises:
        UsageError: Keras uses a backend that cannot train here.
    """
    return backend_named(name())


def backend_named(found: str) -> Backend:
    """Return the backend of a name.

    Raises:
        UsageError: there is no such backend.
    """
    if found not in BACKENDS:
        *others, last = BACKENDS
        raise UsageError(f"unknown KERAS_BACKEND {found!r} (use {', '.join(others)} or {last})")
    return BACKENDS[found]


def before_import() -> None:
    """Set the variables that a backend reads while it is imported, and postpone parts of Keras that are rarely used.

    Values that you have set stay.
    """
    postpone_parts()
    if name() != "tensorflow":
        from objectives.backend import lazy_tensorflow

        lazy_tensorflow.postpone()
    for backend in BACKENDS.values():
        backend.before_import()


def bind(device: Device) -> None:
    """Make only `device` visible to this process, and limit it to its share of the GPU's memory.

    CUDA and XLA read these variables when they start, which a freshly forked trainer has not done yet.
    """
    # A slot of processor cores must not see a GPU, or its framework would take the GPU's memory.
    os.environ["CUDA_VISIBLE_DEVICES"] = "-1" if device.gpu is None else device.gpu
    if device.gpu is not None:
        for backend in BACKENDS.values():
            backend.share_gpu(device.gpu_memory_fraction, grows=device.gpu_memory_grows)


def configure(device: Device, seed: int, *, again: bool = False) -> None:
    """Bind this process to its device and seed all random numbers; call it before the first tensor.

    On a CPU results repeat to the last digit. On a GPU they are seeded but not bitwise repeatable:
    deterministic kernels cost much there, and some operations have none. `again` keeps the compiled functions of
    earlier runs in this process.
    """
    bind(device)
    current().configure(device)
    current().seed(seed % 2**32, again=again)


def precision(device: Device, capability: float | None = None) -> Literal["float32", "bfloat16"]:
    """Return the type that layers compute in on this device: the requested one, or bfloat16 where it is faster.

    `capability` is the GPU's CUDA compute capability; without it the backend is asked, which initializes the GPU.
    """
    if device.precision != "auto":
        return device.precision
    if device.gpu is not None:
        known = current().compute_capability() if capability is None else capability
        return "bfloat16" if known >= _BFLOAT16_CAPABILITY else "float32"
    backend = BACKENDS.get(name())
    fast = backend is not None and backend.bfloat16_on_cpu and _processor_flags() & _BFLOAT16_FLAGS
    return "bfloat16" if fast else "float32"


def _configured() -> str | None:
    """Return the backend that keras.json names, looking where Keras does."""
    with contextlib.suppress(OSError, ValueError, RuntimeError):
        home = Path.home() if os.access(Path.home(), os.W_OK) else Path("/tmp")
        folder = Path(os.environ.get("KERAS_HOME", home / ".keras")).expanduser()
        found = json.loads((folder / "keras.json").read_text(encoding="utf-8"))
        return str(found["backend"]) if isinstance(found, dict) and "backend" in found else None
    return None


def _processor_flags() -> frozenset[str]:
    """Return the processor's flags as Linux lists them; empty elsewhere."""
    with contextlib.suppress(OSError):
        for line in _CPUINFO.read_text(encoding="utf-8", errors="replace").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "flags":
                return frozenset(value.split())
    return frozenset()
