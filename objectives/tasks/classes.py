"""The task "classes": each example belongs to one of several classes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from objectives.tasks import tables
from objectives.tasks.curves import curves
from objectives.tasks.metrics import Floats, positives
from objectives.tasks.task import Loss, Task


class Classes(Task):
    """Targets int64 (n,), raw outputs (n, classes): logits of a softmax."""

    name = "classes"
    activation = "softmax"
    default_metric = "val_accuracy"
    reported = ("accuracy",)
    balances = True
    wanted = "a logit for each of {count} classes"

    def loss(self, smoothing: float) -> Loss:
        return cross_entropy(smoothing)

    def losses(self, targets: NDArray[Any], raw: Floats) -> Floats:
        shifted = raw - raw.max(axis=1, keepdims=True)
        losses: Floats = np.log(np.exp(shifted).sum(axis=1)) - shifted[np.arange(len(targets)), targets]
        return losses

    def outputs(self, raw: Floats) -> Floats:
        exponentials = np.exp(raw - raw.max(axis=1, keepdims=True))
        shares: Floats = exponentials / exponentials.sum(axis=1, keepdims=True)
        return shares

    def given(self, targets: Any) -> Any:
        import keras

        return keras.ops.cast(keras.ops.reshape(targets, [-1]), "int32")

    def one_hot(self, targets: Any) -> Any:
        import keras

        return keras.ops.one_hot(self.given(targets), self.data.output_size)

    def exported(self, raw: Any, name: str | None) -> Any:
        import keras

        return keras.layers.Softmax(name=name)(raw)

    def balanced_weights(self) -> Floats:
        return equal_weights(self.data.y_train, self.data.output_size)

    def records(self, targets: NDArray[Any], outputs: Floats) -> dict[str, Any]:
        found = tables.of_classes(targets, outputs, self.data.output_size)
        return found | {"curves": curves(self.data.classes, outputs, positives(targets, outputs))}

    def _hint(self, shape: tuple[int | None, ...]) -> str:
        if shape == (1,) and self.data.output_size == 2:
            return ', or set task = "binary", which needs one output'
        return ""


def cross_entropy(smoothing: float) -> Loss:
    """Return a loss: cross-entropies (n,) in nats of integer labels (n,) and finite logits (n, classes).

    A smoothed label is 1 - smoothing for its class, plus smoothing / classes for every class ("Rethinking the
    Inception architecture", Szegedy et al., 2015, section 7).
    """
    import keras

    def loss(labels: Any, logits: Any) -> Any:
        classes = logits.shape[-1]
        # Keras passes labels in the logits' type.
        labels = keras.ops.cast(keras.ops.reshape(labels, [-1]), "int32")
        targets = keras.ops.one_hot(labels, classes, dtype=logits.dtype)
        if smoothing:
            targets = (1.0 - smoothing) * targets + smoothing / classes
        # Not Keras' loss, whose deterministic form on TensorFlow has 150 operations with its gradient.
        return -keras.ops.sum(targets * keras.ops.log_softmax(logits, axis=-1), axis=-1)

    return loss


def equal_weights(targets: NDArray[Any], count: int) -> Floats:
    """Return n / (classes × examples of the class) for each class, so that all count equally; 1 for an empty one."""
    sizes = np.bincount(targets, minlength=count)
    present = int((sizes > 0).sum())
    weights: Floats = np.where(sizes > 0, len(targets) / (present * np.maximum(sizes, 1)), 1.0)
    return weights
