"""Training steps on JAX: a compiled function of the state of a model that returns the next state.

The state stays on the device, where each step overwrites it (donated arrays), and Python waits for the device only when
it reads the metrics, once a call. A GPU takes all batches of a call as one program. A processor is called for each
batch: in a loop of a program, XLA computes convolutions there 18 times as slowly.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from jax import numpy as jnp
from keras import ops
from numpy.typing import NDArray

from objectives.backend import step_inputs
from objectives.backend.base import Arrays, Batch

if TYPE_CHECKING:
    import keras

ROOM_FACTOR = 8
"""Factor between the sizes of calls for which a program is compiled: 8 and 64 batches.

Only the batches of a call are computed; the rest of its room is copied to the device, which takes far less than another
compilation.
"""

State = tuple[list[Any], ...]
"""Values of the trained variables, the others, the optimizer's and those of metrics, as in Keras' `train_step`."""


class JaxSteps:
    """Trains a compiled model on the batches of a call, as `Backend.training_steps` describes it."""

    def __init__(
        self, model: keras.Model, targets: NDArray[Any], batch: Batch | None, resident: Sequence[Any]
    ) -> None:
        build(model, targets)
        self._model = model
        self._inputs = step_inputs.inputs_of(model)
        # Arguments of the step, because a compiled function copies the arrays that it closes over.
        self._resident = tuple(resident)
        self._returned: dict[int, Any] = {}
        """Arrays of the last state that a step has returned, by their identity: no others are overwritten."""

        def step(state: State, numbers: Any, resident: Any, parts: Any) -> State:
            with step_inputs.given(self._inputs, numbers):
                data = parts if batch is None else batch(*resident, *parts)
                return model.train_step(state, data)[1]  # type: ignore[no-any-return]

        def steps(state: State, numbers: Any, resident: Any, arrays: Any, count: Any) -> State:
            def body(index: Any, state: State) -> State:
                return step(state, numbers, resident, tuple(array[index] for array in arrays))

            return jax.lax.fori_loop(0, count, body, state)  # type: ignore[no-any-return,unused-ignore]

        self._step = jax.jit(step, donate_argnums=0)
        self._steps = jax.jit(steps, donate_argnums=0)
        self._loops = jax.default_backend() != "cpu"
        self._room = ROOM_FACTOR
        """Number of batches for which the arrays of a call have room."""

    def __call__(self, arrays: Arrays) -> dict[str, float]:
        state = self._taken()
        numbers = [one.array() for one in self._inputs]
        try:
            if self._loops:
                state = self._steps(state, numbers, self._resident, self._padded(arrays), len(arrays[0]))
            else:
                for parts in zip(*arrays, strict=True):
                    state = self._step(state, numbers, self._resident, parts)
        finally:
            # Also after an error, because the arrays of an earlier state are gone.
            self._put(state)
        return {name: float(value) for name, value in self._model.get_metrics_result().items()}

    def _variables(self) -> State:
        return variables(self._model)

    def _taken(self) -> State:
        """Return the state of the model, in arrays that nothing else uses.

        A value that was assigned since the last call may be that of another variable, too.
        """

        def own(value: Any) -> Any:
            return value if id(value) in self._returned else jnp.array(value, copy=True)

        return tuple([own(one.value) for one in group] for group in self._variables())

    def _put(self, state: State) -> None:
        """Give the model the state that the steps have reached."""
        self._returned = {}
        for group, values in zip(self._variables(), state, strict=True):
            for variable, value in zip(group, values, strict=True):
                variable.assign(value)
                self._returned[id(value)] = value

    def _padded(self, arrays: Arrays) -> Arrays:
        """Return the arrays with room for as many batches as the largest call had: each new room is compiled anew."""
        while self._room < len(arrays[0]):
            self._room *= ROOM_FACTOR
        missing = self._room - len(arrays[0])
        return tuple(
            np.concatenate([array, np.zeros((missing, *array.shape[1:]), array.dtype)]) for array in arrays
        )


def variables(model: keras.Model) -> State:
    """Return the variables of a built model in the order of `State`."""
    return (
        model.trainable_variables,
        model.non_trainable_variables,
        model.optimizer.variables,
        model.metrics_variables,
    )


def build(model: keras.Model, targets: NDArray[Any]) -> None:
    """Make the variables of the optimizer and of the metrics, which no step can make.

    Keras makes those of metrics when they are first used.
    """
    if not model.optimizer.built:
        model.optimizer.build(model.trainable_variables)
    target = ops.convert_to_tensor(np.zeros([1, *targets.shape[1:]], targets.dtype))
    model.compute_metrics(None, target, ops.zeros([1, *model.output_shape[1:]]))
    model.reset_metrics()
