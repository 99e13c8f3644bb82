"""Numbers that a traced step reads anew each time, so that it need not be traced again for others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from objectives.backend import interface

if TYPE_CHECKING:
    import keras


class StepInputs:
    """Numbers of a configuration, in float32: on TensorFlow, in a variable that Keras does not track; on JAX, arguments
    of the traced step.

    They are no state of a model or an optimizer: a checkpoint does not hold them, because the configuration does.
    """

    def __init__(self, *values: float) -> None:
        self.values = tuple(map(float, values))
        self._variable: Any = None
        self._given: Sequence[Any] | None = None
        """Arguments of the step that is traced on JAX."""
        if interface.name() == "tensorflow":
            import tensorflow as tf

            self._variable = tf.Variable(self.array(), trainable=False)

    def array(self) -> NDArray[np.float32]:
        """Return the numbers in the type that a step computes in."""
        return np.asarray(self.values, np.float32)

    def assign(self, values: Sequence[float]) -> None:
        """Replace the numbers by as many others, in traced steps too."""
        self.values = tuple(map(float, values))
        if self._variable is not None:
            self._variable.assign(self.array())

    def read(self) -> list[Any]:
        """Return the numbers as tensors of the step that is traced or executed, or as they are."""
        if self._given is not None:
            return list(self._given)
        if self._variable is None:
            return list(self.values)
        import tensorflow as tf

        return list(tf.unstack(self._variable.read_value()))


def available() -> bool:
    """Return whether a traced step reads the numbers on this backend, and not their values when it was traced."""
    return interface.name() in ("tensorflow", "jax")


def inputs_of(model: keras.Model) -> list[StepInputs]:
    """Return those of a model's layers and of its optimizer, always in the same order."""
    owners = [*model._flatten_layers(), model.optimizer]
    return [value for owner in owners for value in vars(owner).values() if isinstance(value, StepInputs)]


@contextmanager
def given(inputs: Sequence[StepInputs], values: Sequence[Any]) -> Iterator[None]:
    """Let `inputs` be read as `values`, tensors with their numbers, while a step is traced in this block."""
    try:
        for one, value in zip(inputs, values, strict=True):
            one._given = [value[index] for index in range(len(one.values))]
        yield
    finally:
        for one in inputs:
            one._given = None
