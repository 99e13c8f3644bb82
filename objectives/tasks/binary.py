"""The task "binary": each example belongs to one of two classes, of which the second one is called positive."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpo.errors import ObjectiveBrokenError
from objectives.tasks import tables
from objectives.tasks.classes import equal_weights
from objectives.tasks.curves import curves
from objectives.tasks.labels import check_logits, logistic_losses, mean_logistic_loss, sigmoid
from objectives.tasks.metrics import Floats, positives
from objectives.tasks.task import RANGES, Loss, Range, Task


class Binary(Task):
    """Targets int64 (n,) of 0 and 1, raw outputs (n, 1): the logit of a sigmoid."""

    name = "binary"
    activation = "sigmoid"
    default_metric = "val_accuracy"
    reported = ("accuracy", "auc")
    balances = True
    wanted = "the logit of the second class"

    def loss(self, smoothing: float) -> Loss:
        return mean_logistic_loss(smoothing)

    def losses(self, targets: NDArray[Any], raw: Floats) -> Floats:
        return logistic_losses(targets, raw[:, 0])

    def accuracy(self) -> list[Any]:
        import keras

        return [keras.metrics.BinaryAccuracy(name="accuracy", threshold=0.0)]

    def outputs(self, raw: Floats) -> Floats:
        return sigmoid(raw[:, 0])

    def given(self, targets: Any) -> Any:
        import keras

        # Of the outputs' shape, or the difference of both would be a table of all pairs.
        return keras.ops.cast(keras.ops.reshape(targets, [-1, 1]), "float32")

    def balanced_weights(self) -> Floats:
        return equal_weights(self.data.y_train, 2)

    def check_end(self, kind: Range | None) -> None:
        check_logits(kind)
        if kind == "softmax":
            raise ObjectiveBrokenError(
                f"the model ends in {RANGES[kind]}, so that its only output is always 1: end it in"
                " keras.layers.Dense(data.output_size)"
            )

    def records(self, targets: NDArray[Any], outputs: Floats) -> dict[str, Any]:
        both = np.stack([1.0 - outputs, outputs], axis=1)
        found = tables.of_classes(targets, both, 2)
        return found | {
            "curves": curves(self.data.classes[1:], outputs[:, None], positives(targets, outputs))
        }

    def _hint(self, shape: tuple[int | None, ...]) -> str:
        return ', or set task = "classes", which needs two outputs' if shape == (2,) else ""
