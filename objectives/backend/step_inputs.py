"""Numbers that a traced step reads anew each time, so that it need not be traced again for others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from objectives.backend import interface


class StepInputs:
    """Numbers of a configuration, in float32; on TensorFlow, in a variable that Keras does not track.

    They are no state of a model or an optimizer: a checkpoint does not hold them, because the configuration does.
    """

    def __init__(self, *values: float) -> None:
        self.values = tuple(map(float, values))
        self._variable: Any = None
        if interface.name() == "tensorflow":
            import tensorflow as tf

            self._variable = tf.Variable(np.asarray(self.values, np.float32), trainable=False)

    def assign(self, values: Sequence[float]) -> None:
        """Replace the numbers by as many others, in traced steps too."""
        self.values = tuple(map(float, values))
        if self._variable is not None:
            self._variable.assign(np.asarray(self.values, np.float32))

    def read(self) -> list[Any]:
        """Return the numbers as tensors of the step that is traced or executed, or as they are."""
        if self._variable is None:
            return list(self.values)
        import tensorflow as tf

        return list(tf.unstack(self._variable.read_value()))
