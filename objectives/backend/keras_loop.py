"""Training and inference through Keras' own compiled functions, for backends without a faster way here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import keras

    from objectives.backend.interface import Arrays, Batch, Steps


def training_steps(model: keras.Model, batch: Batch | None, resident: Sequence[Any]) -> Steps:
    """Return one call of `train_on_batch` after another."""

    def steps(arrays: Arrays) -> dict[str, float]:
        # `train_on_batch` resets no metrics: its last result covers all batches so far.
        logs: dict[str, Any] = {}
        for parts in zip(*arrays, strict=True):
            images, labels = parts if batch is None else batch(*resident, *parts)
            logs = model.train_on_batch(images, labels, return_dict=True)
        return {key: float(value) for key, value in logs.items()}

    return steps


def forward(model: keras.Model) -> Callable[[NDArray[np.uint8]], NDArray[Any]]:
    """Return the model's inference as a compiled function of a batch."""
    return model.predict_on_batch  # type: ignore[no-any-return,unused-ignore]
