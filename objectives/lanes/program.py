"""The program of a shape: one training step of all lanes, and the state of their models, stacked on the device."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import keras
import numpy as np
from numpy.typing import NDArray

from objectives.backend import jax_steps, lane_convolutions, step_inputs
from objectives.backend.base import Batch
from objectives.backend.jax_steps import State

BLOCK_STEPS = 8
"""Largest number of steps in one call where several pay."""


def values(model: keras.Model) -> State:
    return tuple([one.value for one in part] for part in jax_steps.variables(model))


def numbers(model: keras.Model) -> list[NDArray[np.float32]]:
    """Return the numbers that a step reads of a model's configuration, those of its optimizer and of its dropouts."""
    return [one.array() for one in step_inputs.inputs_of(model)]


class LaneProgram:
    """Trains one batch of each active row of the stack in a call; rows that are not active keep their state.

    Each number of rows is compiled when it is first trained, and kept. Only one thread may use it. The model that it is
    traced from belongs to it alone.
    """

    def __init__(
        self,
        model: keras.Model,
        targets: NDArray[Any],
        batch: Batch | None,
        resident: Sequence[Any],
        width: int,
    ) -> None:
        """Trace nothing yet. `batch` and `resident` are those of `Backend.training_steps`."""
        jax_steps.build(model, targets)
        self._model, self._batch, self._resident = model, batch, list(resident)
        self.width = width
        """Number of rows of the stack."""
        self._inputs = step_inputs.inputs_of(model)
        self._initial = values(model)
        self._initial_numbers = numbers(model)
        self._numbers = [np.stack([one] * width) for one in self._initial_numbers]
        self._state: State = jax.tree.map(
            lambda one: jnp.broadcast_to(one[None], (width, *one.shape)).copy(), self._initial
        )
        stepped = jax.vmap(self._one, in_axes=(0, 0, 0, None, 0))
        self._step = jax.jit(functools.partial(_once, stepped), donate_argnums=0)
        # Compiled by itself too, so that it is traced once for its metrics and for the loop.
        self._block = jax.jit(functools.partial(_looped, jax.jit(stepped)), donate_argnums=0)
        self._put = jax.jit(_put, donate_argnums=0)
        self._take = jax.jit(lambda state, lane: jax.tree.map(lambda one: one[lane], state))

    def _one(self, state: State, given: Any, active: Any, resident: Any, arrays: Any) -> tuple[State, Any]:
        """Train one lane on one batch: Keras' own step, with the numbers of the lane's configuration."""
        with step_inputs.given(self._inputs, given):
            made = arrays if self._batch is None else self._batch(*resident, *arrays)
            logs, new = self._model.train_step(state, tuple(made))
        kept = jax.tree.map(
            lambda mine, before: jnp.where(active, mine, before), tuple(map(list, new)), state
        )
        return kept, logs

    def train(self, active: NDArray[np.bool_], arrays: Sequence[NDArray[Any]]) -> dict[str, Any]:
        """Begin to train active rows (rows,) on a batch each, arrays (rows, batch, …).

        Returned are the metrics to be (1, rows).
        """
        with lane_convolutions.traced():
            self._state, logs = self._step(self._state, self._numbers, active, self._resident, tuple(arrays))
        return dict(logs)

    def train_block(
        self, active: NDArray[np.bool_], count: int, arrays: Sequence[NDArray[Any]]
    ) -> dict[str, Any]:
        """Begin to train `count` steps in one call, each of the rows that are active in it.

        `active` (room, rows), arrays (room, rows, batch, …) and the metrics to be that are returned (room, rows) have
        room for as many steps as are compiled at once.
        """
        with lane_convolutions.traced():
            self._state, logs = self._block(
                self._state, self._numbers, active, self._resident, tuple(arrays), count
            )
        return dict(logs)

    def resize(self, width: int, kept: Sequence[int]) -> None:
        """Make the stack so wide; its first rows are those that are kept, in this order, and the others are reset."""
        missing = width - len(kept)

        def resized(rows: Any, new: Any) -> NDArray[Any]:
            return np.concatenate(
                [np.asarray(rows)[list(kept)], np.repeat(np.asarray(new)[None], missing, 0)]
            )

        self._numbers = [*map(resized, self._numbers, self._initial_numbers)]
        # In the host's memory, because each operation of the device would be compiled for each shape.
        self._state = jax.device_put(jax.tree.map(resized, self._state, self._initial))
        self.width = width

    def put(self, lane: int, found: State, own: Sequence[NDArray[np.float32]]) -> None:
        """Give a row the values and the numbers of a model of this shape."""
        # New arrays, because a call that has not ended yet may read the old ones.
        self._numbers = [one.copy() for one in self._numbers]
        for one, new in zip(self._numbers, own, strict=True):
            one[lane] = new
        self._state = self._put(self._state, found, lane)

    def take(self, lane: int) -> State:
        """Return the values of a row, to be when its steps have ended."""
        found: State = self._take(self._state, lane)
        return found

    def reset(self, lane: int) -> None:
        """Give a row a finite state, so that it computes with nothing that its last trial has left."""
        self._state = self._put(self._state, self._initial, lane)


def _put(state: State, found: State, lane: Any) -> State:
    return jax.tree.map(lambda all_lanes, one: all_lanes.at[lane].set(one), state, found)  # type: ignore[no-any-return,unused-ignore]


def _once(stepped: Any, *given: Any) -> tuple[State, Any]:
    """Train one step and return the state and the metrics (1, rows)."""
    state, logs = stepped(*given)
    return state, {name: value[None] for name, value in logs.items()}


def _looped(
    stepped: Any, state: State, given: Any, active: Any, resident: Any, arrays: Any, count: Any
) -> Any:
    """Train `count` steps and return the state and the metrics of each step; only those steps are computed."""

    def step(index: Any, state: State) -> tuple[State, Any]:
        batches = tuple(array[index] for array in arrays)
        return stepped(state, given, active[index], resident, batches)  # type: ignore[no-any-return]

    def body(index: Any, carried: tuple[State, Any]) -> tuple[State, Any]:
        state, logs = carried
        state, new = step(index, state)
        return state, jax.tree.map(lambda kept, one: kept.at[index].set(one), logs, new)

    logs = jax.tree.map(
        lambda one: jnp.zeros((len(active), *one.shape), one.dtype), jax.eval_shape(step, 0, state)[1]
    )
    return jax.lax.fori_loop(0, count, body, (state, logs))
