"""The base class of tasks: the loss, the outputs and the records of one kind of targets."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from hpo.errors import ObjectiveBrokenError
from objectives.data_options import TaskName
from objectives.tasks.metrics import METRICS, Floats, names_of

if TYPE_CHECKING:
    import keras

    from objectives.data.splits import Data

Loss = Callable[[Any, Any], Any]
"""Function of targets and a model's outputs in the backend's tensors, which returns a loss for each example (n,)."""

MetricFunction = Callable[[NDArray[Any], Floats], float]
"""Metric of an objective's own: targets and outputs in NumPy."""

Range = Literal["softmax", "sigmoid", "tanh", "never negative", "never positive"]
RANGES: Mapping[Range, str] = {
    "softmax": "a softmax, whose outputs sum to one",
    "sigmoid": "a sigmoid, whose outputs lie between 0 and 1",
    "tanh": "a tanh, whose outputs lie between -1 and 1",
    "never negative": "outputs that are never negative",
    "never positive": "outputs that are never positive",
}
"""Ranges that the outputs of a model keep whatever its weights are, in words of messages."""

ClassWeight = Literal["balanced"] | Mapping[Any, float] | None


@dataclass(frozen=True, kw_only=True)
class Scaling:
    """The values that a model computes: (target - offset) / scale, one number of each for every target."""

    scale: Floats
    offset: Floats


class Task(ABC):
    """One kind of targets, for the data of one run.

    A model is trained without the activation at its end; its outputs are then called raw.
    """

    name: ClassVar[TaskName]
    activation: ClassVar[Literal["softmax", "sigmoid"] | None]
    """Activation that turns raw outputs into those of the exported model."""
    default_metric: ClassVar[str]
    """Metric of an objective that sets none."""
    reported: ClassVar[tuple[str, ...]]
    """Names of the metrics that each epoch reports unless the objective names others."""
    reports_accuracy: ClassVar[bool] = True
    """Whether the accuracy of the training batches is reported too."""
    balances: ClassVar[bool] = False
    """Whether examples can be drawn by their classes."""
    wanted: ClassVar[str]
    """Outputs that a model needs, with the placeholder {count}."""

    def __init__(self, data: Data) -> None:
        self.data = data
        self.scaling: Scaling | None = None

    @abstractmethod
    def loss(self, smoothing: float) -> Loss:
        """Return the default loss of targets and raw outputs; `smoothing` is the share of a target that is spread."""

    @abstractmethod
    def losses(self, targets: NDArray[Any], raw: Floats) -> Floats:
        """Return the default loss of each example (n,), without smoothing."""

    def accuracy(self) -> list[Any]:
        """Return the metrics that Keras computes of targets and raw outputs while it trains."""
        return ["accuracy"]

    @abstractmethod
    def outputs(self, raw: Floats) -> Floats:
        """Return probabilities (n, classes), those of the second of two classes (n,), or values (n, targets)."""

    def given(self, targets: Any) -> Any:
        """Return a batch's targets, tensors, in the form in which a loss of your own gets them."""
        return targets

    def one_hot(self, targets: Any) -> Any:
        """Return a batch's targets, tensors, as Keras' losses need them."""
        return self.given(targets)

    def standardize(self, model: keras.Model) -> None:  # noqa: B027 - for numbers as targets
        """Let the model compute standardized targets, if the task has numbers as targets and the model allows it."""

    def exported(self, raw: Any, name: str | None) -> Any:
        """Return the output of the exported model, given its raw output, as tensors of Keras."""
        import keras

        return keras.layers.Activation(self.activation, name=name)(raw)

    def weights(self, chosen: ClassWeight) -> NDArray[np.float32] | None:
        """Return a weight for each class or label; None for equal ones.

        Raises:
            ObjectiveBrokenError: the task has no classes, or the mapping names others or has invalid weights.
        """
        if chosen is None:
            return None
        if chosen == "balanced":
            return self.balanced_weights().astype(np.float32)
        names = list(self.data.classes)
        weights = np.ones(len(names), np.float32)
        given: dict[int, Any] = {}
        for key, weight in dict(chosen).items():
            index = names.index(str(key)) if str(key) in names else key
            if (
                isinstance(index, bool)
                or not isinstance(index, int | np.integer)
                or not 0 <= index < len(names)
            ):
                raise ObjectiveBrokenError(
                    f"class_weight names {key!r}, which is not a class of the data: use {_listed(names)}"
                )
            # Numbers may be names: of the classes 1, 2 and 3, 0 is the number of the first, and 1 its name.
            if (other := given.setdefault(int(index), key)) is not key:
                raise ObjectiveBrokenError(
                    f"class_weight has two weights for the class {names[int(index)]!r}, by {other!r} and {key!r}: use"
                    f" the names {_listed(names)}"
                )
            weights[int(index)] = _checked_weight(key, weight)
        if not weights.any():
            raise ObjectiveBrokenError("class_weight is 0 for all classes: give one of them a weight above 0")
        return weights

    def balanced_weights(self) -> Floats:
        """Return weights that let each class or label count equally."""
        raise ObjectiveBrokenError(
            f"class_weight does not apply to task {self.name!r}: leave it out, or write a loss of your own"
        )

    def weighted(self, loss: Loss, weights: NDArray[np.float32]) -> Loss:
        """Return the loss, one number for each example (n,), weighted by its class, as Keras' `class_weight`."""
        import keras

        def weighted_loss(targets: Any, raw: Any) -> Any:
            index = keras.ops.cast(keras.ops.reshape(targets, [-1]), "int32")
            losses = loss(targets, raw)
            return losses * keras.ops.cast(keras.ops.take(weights, index), losses.dtype)

        return weighted_loss

    def metrics(self, *, with_log_loss: bool) -> list[str]:
        """Return the names of the metrics that a final run records."""
        names = [
            name for name in names_of(self.name) if METRICS[name].applies(self.name, self.data.output_size)
        ]
        return [name for name in names if with_log_loss or name != "log_loss"]

    @abstractmethod
    def records(self, targets: NDArray[Any], outputs: Floats) -> dict[str, Any]:
        """Return the further records of a final run: tables and curves of its test set."""

    def distribution(self, targets: NDArray[Any]) -> dict[str, Any]:
        """Return the number of examples of each class, by name."""
        sizes = np.bincount(targets, minlength=len(self.data.classes)).tolist()
        return dict(zip(self.data.classes, sizes, strict=True))

    def check_model(self, shape: Sequence[int | None]) -> None:
        """Check the shape of a model's output without its first axis.

        Raises:
            ObjectiveBrokenError: it does not fit the data.
        """
        count = self.data.output_size
        if tuple(shape) != (count,):
            raise ObjectiveBrokenError(
                f"build() returned a model with outputs of {tuple(shape)}, not {self.wanted.format(count=count)}:"
                f" end it in keras.layers.Dense(data.output_size), here {count}{self._hint(tuple(shape))}"
            )

    def check_end(self, kind: Range | None) -> None:  # noqa: B027 - for tasks that need certain outputs
        """Check the range of a model's outputs, which it keeps.

        Raises:
            ObjectiveBrokenError: the targets are never reached.
        """

    def _hint(self, shape: tuple[int | None, ...]) -> str:  # noqa: ARG002 - for tasks that are mistaken for others
        return ""


def _checked_weight(key: Any, weight: Any) -> float:
    try:
        found = float(weight)
    except (TypeError, ValueError):
        found = math.nan
    if not 0 <= found < math.inf:
        raise ObjectiveBrokenError(
            f"class_weight of {key!r} is {weight!r:.60}: use a number of at least 0, such as 2.0"
        )
    return found


def _listed(names: Sequence[str], most: int = 5) -> str:
    return ", ".join(map(repr, names[:most])) + (", …" if len(names) > most else "")
