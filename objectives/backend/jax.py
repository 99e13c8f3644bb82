"""JAX: the platform, the share of a GPU, and training steps that leave a model's state on the device."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from objectives.backend import lane as lanes
from objectives.backend.base import Backend, Batch, Steps
from objectives.device import Device

if TYPE_CHECKING:
    import keras


_FRACTIONS = ("XLA_PYTHON_CLIENT_MEM_FRACTION", "XLA_CLIENT_MEM_FRACTION")
_PREALLOCATE = "XLA_PYTHON_CLIENT_PREALLOCATE"


class Jax(Backend):
    """XLA uses one thread for each core that the trainer is pinned to, or as many as `PJRT_NPROC` names."""

    package = "jax"
    gpu_installation = "pip install 'hpo-service[jax-cuda13]'"
    installation = "pip install 'hpo-service[jax]', or 'hpo-service[jax-cuda13]' for NVIDIA GPUs"
    # Several trials may share a GPU, so JAX must not take all of its memory at the start.
    variables = {_PREALLOCATE: "false"}

    @property
    def keeps_functions(self) -> bool:
        """Keras' random states are variables and arguments of each function, and no seed is traced into it."""
        return True

    def share_gpu(self, fraction: float | None, *, grows: bool = False) -> None:
        limited = any(name in os.environ and name not in self._given for name in _FRACTIONS)
        if fraction is not None and not limited:
            # The older of the two names, which all versions read; newer ones refuse to be given both.
            self._set(_FRACTIONS[0], f"{fraction:.4f}")
        # Memory that is allocated at the start is not fragmented, and no other process takes it.
        self._set(_PREALLOCATE, "false" if fraction is None or grows else "true")

    def configure(self, device: Device) -> None:
        import jax

        if device.gpu is None:
            jax.config.update("jax_platforms", "cpu")

    def gpu_names(self) -> list[str]:
        import jax

        return [str(one.device_kind) for one in jax.devices() if one.platform != "cpu"]

    def compute_capability(self) -> float:
        import jax

        try:
            return float(jax.devices()[0].compute_capability)
        except (AttributeError, ValueError):
            return 0.0

    def gpu_bytes(self) -> int | None:
        import jax

        found = jax.local_devices()[0].memory_stats() or {}
        # Without a limit of ours, JAX takes three quarters of a GPU.
        limit, used = found.get("bytes_limit"), found.get("bytes_in_use", 0)
        return None if limit is None else max(0, limit - used)

    def training_steps(
        self,
        model: keras.Model,
        targets: NDArray[Any],
        batch: Batch | None = None,
        resident: Sequence[Any] = (),
    ) -> Steps:
        if (lane := lanes.current()) is not None:
            return lane.training_steps(model, targets, batch, resident)
        from objectives.backend.jax_steps import JaxSteps

        return JaxSteps(model, targets, batch, resident)

    @property
    def ahead(self) -> int:
        # The program of the lanes has the next batches of a lane before the last ones are trained.
        return 0 if lanes.current() is None else 1

    def collect(self, model: keras.Model) -> None:
        if (lane := lanes.current()) is not None:
            lane.collect(model)

    def training_forward(self, model: keras.Model) -> Callable[[Any], None]:
        import jax

        lane = lanes.current()

        def states(trained: Any, others: Any, inputs: Any) -> Any:
            return model.stateless_call(trained, others, inputs, training=True)[1]

        compiled = jax.jit(states) if lane is None else lane.forward(model, training=True)

        def call(inputs: Any) -> None:
            found = compiled(*_values(model), inputs)
            for variable, value in zip(model.non_trainable_variables, found, strict=True):
                variable.assign(value)

        return call

    def forward(self, model: keras.Model) -> Callable[[Any], NDArray[Any]]:
        import jax

        def outputs(trained: Any, others: Any, inputs: Any) -> Any:
            return model.stateless_call(trained, others, inputs, training=False)[0]

        lane = lanes.current()
        compiled = jax.jit(outputs) if lane is None else lane.forward(model, training=False)
        return lambda inputs: jax.tree.map(np.asarray, compiled(*_values(model), inputs))  # type: ignore[no-any-return,unused-ignore]


def _values(model: keras.Model) -> tuple[list[Any], list[Any]]:
    """Return the values of the trained variables of a model, and of the others."""
    return (
        [one.value for one in model.trainable_variables],
        [one.value for one in model.non_trainable_variables],
    )
