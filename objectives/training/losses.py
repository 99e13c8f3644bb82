"""The loss that a model is trained with: its task's, or one of the objective's own, with weights of classes."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from hpo.errors import ObjectiveBrokenError
from objectives.tasks.metrics import Floats
from objectives.tasks.task import ClassWeight, Loss, Task

OwnLoss = str | Callable[[Any, Any], Any] | None
"""Name of a loss of Keras, one of its losses, a function of targets and outputs, or None: the task's."""


class TaskLoss:
    """A task's loss for training, and its plain form of each example in float64."""

    own = False
    """Whether the loss is the objective's own."""

    def __init__(self, task: Task, smoothing: float, class_weight: ClassWeight) -> None:
        weights = task.weights(class_weight)
        loss = task.loss(smoothing)
        self._task = task
        self.training: Loss = loss if weights is None else task.weighted(loss, weights)

    def examples(self, targets: NDArray[Any], raw: Floats) -> Floats:
        """Return the loss of each example (n,), without smoothing or weights."""
        return self._task.losses(targets, raw)

    def mean(self, targets: NDArray[Any], raw: Floats) -> float:
        """Return the mean loss of the examples."""
        return float(self.examples(targets, raw).mean())


class ObjectiveLoss:
    """A loss of an objective's own, used as in Keras.

    A loss of Keras with `from_logits` gets what this option says: logits, or probabilities. Any other one gets the
    outputs of the model as `build` returned it. Losses of Keras get one-hot targets unless they are sparse.
    """

    own = True

    def __init__(self, task: Task, loss: OwnLoss, class_weight: ClassWeight, probabilities: bool) -> None:
        """`probabilities`: whether the model that `build` returned ends in probabilities."""
        self._task = task
        found = self._found = _found(loss)
        self.name = str(getattr(found, "__name__", None) or getattr(found, "name", type(found).__name__))
        self._call: Callable[[Any, Any], Any] = found.call if isinstance(found, keras.losses.Loss) else found
        stock = type(found).__module__.startswith("keras.") or getattr(found, "__module__", "").startswith(
            "keras."
        )
        from_logits = _from_logits(found, stock)
        self._activated = probabilities if from_logits is None else not from_logits
        self._one_hot = stock and "sparse" not in self.name.lower()
        self.training: Loss = self._losses
        weights = task.weights(class_weight)
        if weights is not None:
            if not task.balances:
                raise ObjectiveBrokenError(
                    f"class_weight applies to the default loss of task {task.name!r} alone: leave one of class_weight"
                    " and loss out"
                )
            self.training = task.weighted(self._one_each, weights)

    def get_config(self) -> dict[str, Any]:
        """Return all that its values depend on, weights of classes apart."""
        return {
            "loss": self._found,
            "task": (self._task.name, self._task.data.output_size),
            "activated": self._activated,
            "one_hot": self._one_hot,
        }

    def examples(self, targets: NDArray[Any], raw: Floats) -> Floats:
        """Return the loss of each example, without weights, in the shape that the objective's loss has."""
        tensors = (keras.ops.convert_to_tensor(values) for values in (targets, raw.astype(np.float32)))
        found: Floats = keras.ops.convert_to_numpy(self._losses(*tensors)).astype(np.float64)
        return found

    def mean(self, targets: NDArray[Any], raw: Floats) -> float:
        """Return the mean loss of the examples."""
        return float(self.examples(targets, raw).mean())

    def _one_each(self, targets: Any, raw: Any) -> Any:
        """Return the loss of each example (n,): the mean over further axes, as Keras takes it at last.

        Raises:
            ObjectiveBrokenError: the loss is one number for all examples, which cannot be weighted.
        """
        losses = self._losses(targets, raw)
        if len(losses.shape) == 0:
            raise ObjectiveBrokenError(
                f"class_weight weights examples, and the loss {self.name} returns one number for all of them: return"
                " the loss of each example (n,), or leave class_weight out"
            )
        return (
            keras.ops.mean(losses, axis=tuple(range(1, len(losses.shape))))
            if len(losses.shape) > 1
            else losses
        )

    def _losses(self, targets: Any, raw: Any) -> Any:
        outputs = keras.activations.get(self._task.activation)(raw) if self._activated else raw
        given = self._task.one_hot(targets) if self._one_hot else self._task.given(targets)
        return self._call(given, outputs)


def chosen(
    task: Task, own: OwnLoss, smoothing: float, class_weight: ClassWeight, probabilities: bool
) -> TaskLoss | ObjectiveLoss:
    """Return the loss of an objective, which may have one of its own.

    Raises:
        ObjectiveBrokenError: the loss is not one of Keras, or options do not go together.
    """
    if own is None:
        return TaskLoss(task, smoothing, class_weight)
    return ObjectiveLoss(task, own, class_weight, probabilities and task.activation is not None)


def _found(loss: OwnLoss) -> Any:
    """Return a loss of Keras by its name, or the loss itself."""
    if not isinstance(loss, str):
        return loss
    try:
        return keras.losses.get(loss)
    except ValueError as exc:
        names = [name for name in dir(keras.losses) if not name.startswith("_") and name[0].islower()]
        near = difflib.get_close_matches(loss, names, 3)
        raise ObjectiveBrokenError(
            f"loss {loss!r} is not one of Keras"
            + (
                f": did you mean {' or '.join(near)}?"
                if near
                else ": use the name"
                " of one of keras.losses, such as 'mean_absolute_error', or a function of targets and outputs"
            )
        ) from exc


def _from_logits(loss: Any, stock: bool) -> bool | None:
    """Return whether a loss of Keras needs logits; None for one that has no such option."""
    if not stock:
        found = getattr(loss, "from_logits", None)
        return found if isinstance(found, bool) else None
    if isinstance(loss, keras.losses.Loss):
        config = loss.get_config()
        return bool(config["from_logits"]) if "from_logits" in config else None
    return False if "from_logits" in inspect.signature(loss).parameters else None
