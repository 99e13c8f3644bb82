"""Learning rates of their own for biases and for the scales and offsets of normalizations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import keras

from objectives.recipes.mixins import with_mixin


class _Factors(keras.optimizers.Optimizer):  # type: ignore[misc]
    """Multiplies the learning rate of variables by the factor of their name."""

    factors: ClassVar[Mapping[str, float]]

    def _backend_update_step(self, grads: Any, trainable_variables: Any, learning_rate: Any) -> None:
        groups: dict[float, tuple[list[Any], list[Any]]] = {}
        for gradient, variable in zip(grads, trainable_variables, strict=True):
            gradients, variables = groups.setdefault(self.factors.get(variable.name, 1.0), ([], []))
            gradients.append(gradient)
            variables.append(variable)
        for factor, (gradients, variables) in groups.items():
            rate = learning_rate if factor == 1.0 else learning_rate * factor
            super()._backend_update_step(gradients, variables, rate)


def with_factors(
    optimizer: keras.optimizers.Optimizer, factors: Mapping[str, float]
) -> keras.optimizers.Optimizer:
    """Return the optimizer, which multiplies its learning rate for variables of these names ("bias", "beta", "gamma").

    The factors apply to the whole schedule of any optimizer. Page, "How to train your ResNet" (2019), part 8, trains
    the offsets of batch normalizations with 64 times the learning rate of the weights.
    """
    kept = {name: float(factor) for name, factor in factors.items() if factor != 1.0}
    return with_mixin(optimizer, _Factors, factors=kept) if kept else optimizer
