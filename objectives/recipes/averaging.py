"""Averages of a model's weights over the steps of its training, kept by the optimizer.

An average over the last steps has less of the noise of each batch than the weights themselves, as if the learning rate
had fallen. It is part of the optimizer's variables, and so of each checkpoint.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import keras

from hpo.errors import ObjectiveBrokenError
from objectives.recipes.mixins import with_mixin

Averaging = float | Literal["lookahead"] | None
"""Decay of an exponential average, such as 0.999, or look-ahead; None: no average."""

LOOKAHEAD_STEPS = 5
"""Number of steps between two looks."""
LOOKAHEAD_RATE = 0.5
"""Share of the way to the weights that the slow weights go at each look."""


class _Exponential(keras.optimizers.Optimizer):  # type: ignore[misc]
    """Keeps an exponential average of the weights.

    Its decay is (1 + steps) / (10 + steps) at first, as in TensorFlow's `ExponentialMovingAverage`, so that the average
    does not hold the initial weights for a short training.
    """

    decay: ClassVar[float]

    def _update_model_variables_moving_average(self, trainable_variables: Any) -> None:
        ops = keras.ops
        steps = ops.cast(self.iterations, "float32")
        # Zero in the first step, because the average begins with the weights.
        decay = ops.where(steps > 0, ops.minimum(self.decay, (1.0 + steps) / (10.0 + steps)), 0.0)
        for variable, average in zip(trainable_variables, _averages(self), strict=True):
            if average is not None:
                average.assign(average + ops.cast(1.0 - decay, variable.dtype) * (variable - average))


class _Lookahead(keras.optimizers.Optimizer):  # type: ignore[misc]
    """Moves slow weights towards the weights after every few steps, and lets the weights go on from there.

    Zhang et al., "Lookahead optimizer: k steps forward, 1 step back" (2019).
    """

    def _update_model_variables_moving_average(self, trainable_variables: Any) -> None:
        ops = keras.ops
        first = ops.equal(self.iterations, 0)
        looks = ops.equal((self.iterations + 1) % LOOKAHEAD_STEPS, 0)
        share = ops.where(first, 1.0, ops.where(looks, LOOKAHEAD_RATE, 0.0))
        for variable, slow in zip(trainable_variables, _averages(self), strict=True):
            if slow is not None:
                slow.assign(slow + ops.cast(share, variable.dtype) * (variable - slow))
                # JAX takes no variables here.
                weights = ops.convert_to_tensor(variable)
                variable.assign(ops.where(looks, ops.convert_to_tensor(slow), weights))


def averaged(optimizer: keras.optimizers.Optimizer, kind: Averaging) -> keras.optimizers.Optimizer:
    """Return the optimizer, which keeps an average of the weights unless `kind` is None.

    Raises:
        ObjectiveBrokenError: the optimizer has its variables already.
    """
    if kind is None:
        return optimizer
    if optimizer.built:
        raise ObjectiveBrokenError(
            "weight_averaging needs an optimizer that has no variables yet: return one from optimizer() without"
            " calling its build()"
        )
    # Keras then keeps a variable for each average, and updates them after each step.
    optimizer.use_ema, optimizer.ema_overwrite_frequency = True, None
    if kind == "lookahead":
        return with_mixin(optimizer, _Lookahead)
    return with_mixin(optimizer, _Exponential, decay=float(kind))


def averages(optimizer: keras.optimizers.Optimizer) -> list[tuple[Any, Any]]:
    """Return each trained variable with its average; empty if the optimizer keeps none."""
    if not isinstance(optimizer, _Exponential | _Lookahead):
        return []
    pairs = zip(optimizer._trainable_variables, _averages(optimizer), strict=True)
    return [(variable, average) for variable, average in pairs if average is not None]


def _averages(optimizer: Any) -> Sequence[Any]:
    found: Sequence[Any] = optimizer._model_variables_moving_average
    return found
