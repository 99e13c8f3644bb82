"""The task "regression": each example has one number, or several."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hpo.errors import ObjectiveBrokenError
from objectives.tasks import tables
from objectives.tasks.metrics import Floats
from objectives.tasks.task import RANGES, Loss, Range, Scaling, Task

if TYPE_CHECKING:
    import keras

_LEAST_SCALE = 1e-12


class Regression(Task):
    """Targets float32 (n, targets), raw outputs of the same shape: values, or standardized ones."""

    name = "regression"
    activation = None
    default_metric = "val_loss"
    reported = ("mae", "rmse", "r2")
    reports_accuracy = False
    wanted = "a number for each of {count} targets"

    def loss(self, smoothing: float) -> Loss:  # noqa: ARG002 - of probabilities
        """Return the mean of the squared errors over targets, in the unit that the model computes in."""
        import keras

        scaling = self.scaling

        def loss(targets: Any, outputs: Any) -> Any:
            targets = keras.ops.cast(keras.ops.reshape(targets, keras.ops.shape(outputs)), outputs.dtype)
            if scaling is not None:
                offset, scale = (
                    keras.ops.cast(scaling.offset, "float32"),
                    keras.ops.cast(scaling.scale, "float32"),
                )
                targets = (targets - offset) / scale
            return keras.ops.mean(keras.ops.square(targets - outputs), axis=-1)

        return loss

    def losses(self, targets: NDArray[Any], raw: Floats) -> Floats:
        expected = targets.astype(np.float64)
        if self.scaling is not None:
            expected = (expected - self.scaling.offset) / self.scaling.scale
        losses: Floats = ((expected - raw) ** 2).mean(axis=1)
        return losses

    def accuracy(self) -> list[Any]:
        return []

    def outputs(self, raw: Floats) -> Floats:
        return raw if self.scaling is None else raw * self.scaling.scale + self.scaling.offset

    def given(self, targets: Any) -> Any:
        import keras

        return keras.ops.cast(targets, "float32")

    def standardize(self, model: keras.Model) -> None:
        """Standardize targets by those of the training examples, where a linear layer at the end can learn any unit."""
        import keras

        last = model.outputs[0]._keras_history.operation
        if isinstance(last, keras.layers.Dense) and last.activation is keras.activations.linear:
            targets = self.data.y_train.astype(np.float64)
            spread = targets.std(axis=0)
            self.scaling = Scaling(
                scale=np.where(spread > _LEAST_SCALE, spread, 1.0), offset=targets.mean(axis=0)
            )

    def exported(self, raw: Any, name: str | None) -> Any:  # noqa: ARG002 - no probabilities
        import keras

        if self.scaling is None:
            return raw
        return keras.layers.Rescaling(self.scaling.scale.tolist(), self.scaling.offset.tolist())(raw)

    def check_end(self, kind: Range | None) -> None:
        low, high = float(self.data.y_train.min()), float(self.data.y_train.max())
        fits: dict[Range, bool] = {
            "softmax": self._are_shares(),
            "sigmoid": low >= 0 and high <= 1,
            "tanh": low >= -1 and high <= 1,
            "never negative": high >= 0,
            "never positive": low <= 0,
        }
        if kind is not None and not fits[kind]:
            found = "do not" if kind == "softmax" else f"lie between {low:g} and {high:g}"
            raise ObjectiveBrokenError(
                f"the model ends in {RANGES[kind]}, but the targets of this regression {found}: end it in"
                " keras.layers.Dense(data.output_size), scale the targets, or set another task"
            )

    def _are_shares(self) -> bool:
        """Return whether the targets of each row are not negative and sum to one."""
        targets = self.data.y_train
        return bool(targets.min() >= 0 and np.abs(targets.sum(axis=1, dtype=np.float64) - 1).max() < 0.001)

    def distribution(self, targets: NDArray[Any]) -> dict[str, Any]:
        """Return lowest, mean and highest value of each target, by name."""
        columns = zip(self.data.classes, targets.T, strict=True)
        return {
            name: {
                "min": float(one.min()),
                "mean": float(one.mean(dtype=np.float64)),
                "max": float(one.max()),
            }
            for name, one in columns
        }

    def records(self, targets: NDArray[Any], outputs: Floats) -> dict[str, Any]:
        return {"residuals": tables.residuals(self.data.classes, targets, outputs)}
