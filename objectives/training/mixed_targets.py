"""Losses and training accuracies of examples that are mixed from two, whose targets are `packed`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from objectives.tasks.task import Loss


def mixed_loss(loss: Loss) -> Loss:
    """Return the loss of both targets, each by its share; as that of soft labels, because it is linear in them."""

    def mixed(targets: Any, raw: Any) -> Any:
        first, other, shares = _unpacked(targets)
        ours, theirs = loss(first, raw), loss(other, raw)
        shares = keras.ops.cast(shares, ours.dtype)
        return shares * ours + (1.0 - shares) * theirs

    return mixed


def first_accuracy(metrics: Sequence[Any]) -> list[Any]:
    """Return the metrics that Keras computes in training, of the first target, of which each example has most."""
    return [
        _OfFirst(keras.metrics.SparseCategoricalAccuracy() if metric == "accuracy" else metric)
        for metric in metrics
    ]


class _OfFirst(keras.metrics.Metric):  # type: ignore[misc]
    """A metric of the first of two targets."""

    def __init__(self, metric: keras.metrics.Metric) -> None:
        super().__init__(name="accuracy")
        self.metric = metric

    def update_state(self, targets: Any, raw: Any, sample_weight: Any = None) -> None:
        self.metric.update_state(_unpacked(targets)[0], raw, sample_weight)

    def result(self) -> Any:
        return self.metric.result()

    def reset_state(self) -> None:
        self.metric.reset_state()

    def get_config(self) -> dict[str, Any]:
        return {"metric": self.metric}


def _unpacked(targets: Any) -> tuple[Any, Any, Any]:
    """Return the first targets (n, width), the other ones, and the share (n,) of the first."""
    width = targets.shape[-1] // 2
    return targets[:, :width], targets[:, width : 2 * width], targets[:, -1]
