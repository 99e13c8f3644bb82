"""JAX: the platform; Keras' own training step, with batches made by a compiled function."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from objectives.backend import keras_loop
from objectives.backend.keras_loop import forward
from objectives.base import Device

if TYPE_CHECKING:
    import keras

    from objectives.backend.interface import Batch, Steps

__all__ = ["compute_capability", "configure", "forward", "training_steps"]


def configure(device: Device) -> None:
    """Set the platform of this process; XLA uses one thread for each core that the trainer is pinned to."""
    import jax  # type: ignore[import-not-found,unused-ignore]

    if device.gpu is None:
        jax.config.update("jax_platforms", "cpu")


def compute_capability() -> float:
    """Return the CUDA compute capability of the first visible GPU, e.g. 8.0; 0 without a CUDA GPU."""
    import jax  # type: ignore[import-not-found,unused-ignore]

    try:
        return float(jax.devices()[0].compute_capability)
    except (AttributeError, ValueError):
        return 0.0


def training_steps(model: keras.Model, batch: Batch | None, resident: Sequence[Any]) -> Steps:
    """Return one call of `train_on_batch` after another, with `batch` compiled."""
    import jax  # type: ignore[import-not-found,unused-ignore]

    # `resident` stays an argument, because a compiled function copies the arrays that it closes over.
    return keras_loop.training_steps(model, None if batch is None else jax.jit(batch), resident)
