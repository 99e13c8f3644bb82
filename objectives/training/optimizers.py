"""Faster twins of two Keras optimizers: the same variables and the same steps, each in one kernel.

Keras composes a step of Adam from a dozen operations over all weights, and computes the learning rate and the
corrections of the moments again for each variable, which makes the tracing of a trial's graph slow. Where
`backend.kernels` has no kernel for a variable, a twin steps as Keras does. A step reads weight decay, momentum and the
numbers of its schedule as inputs, so that the traced step serves a later run with others.
"""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, TypeVar

import keras

from objectives.backend import kernels
from objectives.backend.step_inputs import StepInputs
from objectives.training import schedules

T = TypeVar("T")


class _OnceAStep(keras.optimizers.Optimizer):  # type: ignore[misc]
    """Computes the values that all variables of a step share only once."""

    _shared: SimpleNamespace | None = None
    """Shared values of the current step; None between steps. Not a dictionary, which Keras and TensorFlow would track
    as state of the optimizer."""
    _decay: StepInputs | None = None
    """Weight decay; None: there is none."""
    _schedule: StepInputs | None = None
    """Numbers of the schedule; None: it is none that `schedules` knows."""

    def apply(self, grads: Any, trainable_variables: Any = None) -> None:
        # For this step only, because a tensor of one graph is invalid in another.
        self._shared = SimpleNamespace()
        try:
            super().apply(grads, trainable_variables)
        finally:
            self._shared = None

    def build(self, variables: Any) -> None:
        numbers = self.schedule_numbers
        if self._schedule is None and numbers is not None:
            self._schedule = StepInputs(*numbers)
        super().build(variables)

    @property
    def schedule_numbers(self) -> tuple[float, ...] | None:
        """Numbers of the schedule that a step reads; None for a schedule that it computes with constants."""
        return schedules.numbers(self._learning_rate)

    def take_inputs(self, other: Any) -> None:
        """Continue with weight decay and schedule of an optimizer of the same class, in traced steps too."""
        if self._decay is not None:
            self._decay.assign([other.weight_decay])
        if self._schedule is not None:
            self._schedule.assign(other.schedule_numbers)
        self._learning_rate: Any = other._learning_rate

    @property
    def learning_rate(self) -> Any:
        return self._once("learning_rate", self._scheduled)

    @learning_rate.setter
    def learning_rate(self, value: Any) -> None:
        self._schedule = None
        keras.optimizers.Optimizer.learning_rate.fset(self, value)

    def _scheduled(self) -> Any:
        if self._schedule is None:
            return keras.optimizers.Optimizer.learning_rate.fget(self)
        return schedules.rate(self._learning_rate, self._iterations, self._schedule.read())

    @property
    def weight_decay(self) -> Any:
        if self._decay is None or self._shared is None:
            return None if self._decay is None else self._decay.values[0]
        return self._once("weight_decay", self._decay.read)[0]

    @weight_decay.setter
    def weight_decay(self, value: float | None) -> None:
        self._decay = None if value is None else StepInputs(value)

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

    @property
    def momentum(self) -> float:
        return self._momentum_input.values[0]

    @momentum.setter
    def momentum(self, value: float) -> None:
        self._momentum_input = StepInputs(value)

    def take_inputs(self, other: Any) -> None:
        super().take_inputs(other)
        self._momentum_input.assign([other.momentum])

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        if not self.momentum:
            super().update_step(gradient, variable, learning_rate)
            return
        velocity = self.momentums[self._get_variable_index(variable)]
        momentum = self._once("momentum", self._momentum_input.read)[0]
        if kernels.available() and kernels.can_apply(gradient, variable):
            kernels.apply_momentum(variable, velocity, gradient, learning_rate, momentum, self.nesterov)
            return
        rate, gradient, momentum = (
            keras.ops.cast(one, variable.dtype) for one in (learning_rate, gradient, momentum)
        )
        self.assign(velocity, velocity * momentum - gradient * rate)
        if self.nesterov:
            self.assign_add(variable, velocity * momentum - gradient * rate)
        else:
            self.assign_add(variable, velocity)
