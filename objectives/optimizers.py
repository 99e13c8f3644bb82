"""Faster twins of two Keras optimizers: the same variables and the same steps, each in one kernel.

Keras composes a step of Adam of a dozen operations, each of which passes over all weights; where there is no such
kernel, or it does not fit (`objectives.kernels`), a twin steps as Keras does.
"""

from __future__ import annotations

from typing import Any

import keras

from objectives import kernels


class FusedAdam(keras.optimizers.Adam):  # type: ignore[misc]
    """Adam of Kingma and Ba (2015), as Keras has it."""

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        if self.amsgrad or not (kernels.available() and kernels.can_apply(gradient, variable)):
            super().update_step(gradient, variable, learning_rate)
            return
        index = self._get_variable_index(variable)
        moments = self._momentums[index], self._velocities[index]
        betas = self.beta_1, self.beta_2
        kernels.apply_adam(
            variable, moments, gradient, learning_rate, self.iterations + 1, betas, self.epsilon
        )


class FusedSGD(keras.optimizers.SGD):  # type: ignore[misc]
    """Stochastic gradient descent with momentum, Nesterov's if asked for, as Keras has it."""

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        if not self.momentum or not (kernels.available() and kernels.can_apply(gradient, variable)):
            super().update_step(gradient, variable, learning_rate)
            return
        velocity = self.momentums[self._get_variable_index(variable)]
        kernels.apply_momentum(variable, velocity, gradient, learning_rate, self.momentum, self.nesterov)
