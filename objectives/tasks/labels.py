"""The task "labels": each example has any number of labels."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpo.errors import ObjectiveBrokenError
from objectives.tasks import tables
from objectives.tasks.curves import curves
from objectives.tasks.metrics import Floats
from objectives.tasks.task import RANGES, Loss, Range, Task


class Labels(Task):
    """Targets uint8 (n, labels) of 0 and 1, raw outputs (n, labels): logits of a sigmoid each."""

    name = "labels"
    activation = "sigmoid"
    default_metric = "val_macro_f1"
    reported = ("accuracy", "macro_f1", "auc")
    wanted = "a logit for each of {count} labels"

    def loss(self, smoothing: float) -> Loss:
        return mean_logistic_loss(smoothing)

    def losses(self, targets: NDArray[Any], raw: Floats) -> Floats:
        losses: Floats = logistic_losses(targets, raw).mean(axis=1)
        return losses

    def accuracy(self) -> list[Any]:
        import keras

        return [keras.metrics.BinaryAccuracy(name="accuracy", threshold=0.0)]

    def outputs(self, raw: Floats) -> Floats:
        return sigmoid(raw)

    def given(self, targets: Any) -> Any:
        import keras

        return keras.ops.cast(targets, "float32")

    def balanced_weights(self) -> Floats:
        present = self.data.y_train.sum(axis=0, dtype=np.int64)
        absent = len(self.data.y_train) - present
        weights: Floats = np.where((present > 0) & (absent > 0), absent / np.maximum(present, 1), 1.0)
        return weights

    def check_end(self, kind: Range | None) -> None:
        check_logits(kind)
        if kind == "softmax":
            raise ObjectiveBrokenError(
                f"the model ends in {RANGES[kind]}, and an example may have several labels: end it in"
                " keras.layers.Dense(data.output_size)"
            )

    def weighted(self, loss: Loss, weights: NDArray[np.float32]) -> Loss:  # noqa: ARG002 - of the default loss alone
        """Return the default loss in which the examples that have a label count by the weight of this label."""
        return mean_logistic_loss(0.0, weights)

    def distribution(self, targets: NDArray[Any]) -> dict[str, Any]:
        """Return the number of examples that have each label, by name."""
        sizes = targets.sum(axis=0, dtype=np.int64).tolist()
        return dict(zip(self.data.classes, sizes, strict=True))

    def records(self, targets: NDArray[Any], outputs: Floats) -> dict[str, Any]:
        return {
            "per_label": tables.of_labels(self.data.classes, targets == 1, outputs),
            "curves": curves(self.data.classes, outputs, targets == 1),
        }


def check_logits(kind: Range | None) -> None:
    """Check that the logits of a sigmoid can be of either sign.

    Raises:
        ObjectiveBrokenError: they cannot.
    """
    if kind in ("never negative", "never positive"):
        bound = "above" if kind == "never negative" else "below"
        raise ObjectiveBrokenError(
            f"the model ends in {RANGES[kind]}, and a sigmoid gives them probabilities {bound} 0.5 alone: end it in"
            " keras.layers.Dense(data.output_size)"
        )


def mean_logistic_loss(smoothing: float, weights: NDArray[np.float32] | None = None) -> Loss:
    """Return a loss: the mean (n,) over columns of the cross-entropies in nats of targets and finite logits.

    A smoothed target is (1 - smoothing) × target + smoothing / 2. With `weights`, targets of 1 count by those of their
    columns.
    """
    import keras

    def loss(targets: Any, logits: Any) -> Any:
        ops = keras.ops
        targets = ops.cast(ops.reshape(targets, ops.shape(logits)), logits.dtype)
        if smoothing:
            targets = (1.0 - smoothing) * targets + smoothing / 2
        losses = ops.relu(logits) - logits * targets + ops.log1p(ops.exp(-ops.abs(logits)))
        if weights is not None:
            losses = losses * (1.0 + targets * ops.cast(weights - 1.0, logits.dtype))
        return ops.mean(losses, axis=-1)

    return loss


def logistic_losses(targets: NDArray[Any], logits: Floats) -> Floats:
    """Return the cross-entropy of each target of 0 or 1."""
    losses: Floats = np.maximum(logits, 0.0) - logits * targets + np.log1p(np.exp(-np.abs(logits)))
    return losses


def sigmoid(logits: Floats) -> Floats:
    """Return probabilities, without an overflow for large logits of either sign."""
    exponentials = np.exp(-np.abs(logits))
    probabilities: Floats = np.where(logits >= 0, 1.0, exponentials) / (1.0 + exponentials)
    return probabilities
