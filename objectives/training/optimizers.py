"""Faster twins of two Keras optimizers: the same variables and the same steps, each in one kernel.

Keras composes a step of Adam from a dozen operations over all weights, and computes the learning rate and the
corrections of the moments again for each variable, which makes the tracing of a trial's graph slow. Where
`backend.kernels` has no kernel for a variable, a twin steps as Keras does.
"""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, TypeVar

import keras

from objectives.backend import kernels

T = TypeVar("T")


class _OnceAStep(keras.optimizers.Optimizer):  # type: ignore[misc]
    """Computes the values that all variables of a step share only once."""

    _shared: SimpleNamespace | None = None
    """Shared values of the current step; None between steps. Not a dictionary, which Keras and TensorFlow would track
    as state of the optimizer."""

    def apply(self, grads: Any, trainable_variables: Any = None) -> None:
        # For this step only, because a tensor of one graph is invalid in another.
        self._shared = SimpleNamespace()
        try:
            super().apply(grads, trainable_variables)
        finally:
            self._shared = None

    @property
    def learning_rate(self) -> Any:
        return self._once("learning_rate", lambda: keras.optimizers.Optimizer.learning_rate.fget(self))

    @learning_rate.setter
    def learning_rate(self, value: Any) -> None:
        keras.optimizers.Optimizer.learning_rate.fset(self, value)

    def _once(self, name: str, make: Callable[[], T]) -> T:
        if self._shared is None:
            return make()
        if not hasattr(self._shared, name):
            setattr(self._shared, name, make())
        made: T = getattr(self._shared, name)
        return made


class FusedAdam(_OnceAStep, keras.optimizers.Adam):  # type: ignore[misc]
    """Adam (Kingma and Ba, 2015), as in Keras."""

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        if self.amsgrad or not (kernels.available() and kernels.can_apply(gradient, variable)):
            super().update_step(gradient, variable, learning_rate)
            return
        index = self._get_variable_index(variable)
        moments = self._momentums[index], self._velocities[index]
        step = self._once(
            "step", lambda: kernels.adam_step(self.iterations + 1, self.beta_1, self.beta_2, self.epsilon)
        )
        kernels.apply_adam(variable, moments, gradient, learning_rate, step)


class FusedSGD(_OnceAStep, keras.optimizers.SGD):  # type: ignore[misc]
    """Stochastic gradient descent with momentum, optionally Nesterov's, as in Keras."""

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        if not self.momentum or not (kernels.available() and kernels.can_apply(gradient, variable)):
            super().update_step(gradient, variable, learning_rate)
            return
        velocity = self.momentums[self._get_variable_index(variable)]
        kernels.apply_momentum(variable, velocity, gradient, learning_rate, self.momentum, self.nesterov)
