"""The stacked states of the lanes that train, as wide as they need; the executor's thread alone uses it.

A single trial of a rare shape does not compute all lanes: the stack has 1, 2, 4, … rows, or one for each lane. Each
number is compiled when it is first needed.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from objectives.backend.jax_steps import State
from objectives.lanes.program import LaneProgram
from objectives.lanes.work import NextBatch, Slot

Chosen = Sequence[tuple[Slot, Sequence[NextBatch]]]
"""Lanes that have a batch, with their next batches."""


LEAST_FULL = 0.75
"""Least share of the batches that a call of several steps computes which have to be those of a trial."""


def steps_of_call(lefts: Sequence[int], most: int) -> int:
    """Return how many steps one call trains, where lanes have so many batches left.

    Lanes with fewer wait until its end: not all have to have as many, or the lanes near the end of an epoch would make
    all others train by single steps.
    """
    longest = min(most, max(lefts))
    full = (sum(min(left, count) for left in lefts) / (count * len(lefts)) for count in range(1, longest + 1))
    return max(1, sum(share >= LEAST_FULL for share in full))


class Stack:
    """The rows of a program, each with the state of a lane or none."""

    def __init__(self, program: LaneProgram, slots: Sequence[Slot]) -> None:
        """Begin with the width of the program; `slots` are all lanes."""
        self._program, self._slots = program, slots
        self._compiled: dict[int, float] = {}
        """Seconds of the first step of each width."""
        self._wasted = 0.0
        """Seconds that a narrower stack would have saved since it would have done."""
        self.computed = 0
        """Number of batches that the steps so far have computed, those of lanes without one included."""

    def _wanted(self, trials: int) -> int:
        return min(1 << max(trials - 1, 0).bit_length(), len(self._slots))

    def is_compiled(self, trials: int) -> bool:
        """Whether so many trials can be trained, or twice as few, without compiling anything."""
        return self._wanted(trials) in self._compiled or (
            trials <= self._program.width and self._program.width in self._compiled
        )

    def fit(self, trials: int) -> bool:
        """Make the stack as wide as so many trials need, and return whether it was not.

        A narrower one is compiled once computing empty rows has taken as long as that takes.
        """
        wanted = self._wanted(trials)
        if wanted >= self._program.width:
            self._wasted = 0.0
        elif wanted not in self._compiled and self._wasted < max(self._compiled.values(), default=0.0):
            return False
        return self._resize(wanted)

    def _resize(self, width: int) -> bool:
        stacked = [slot for slot in self._slots if slot.row is not None]
        width = max(width, self._wanted(len(stacked)))
        if width == self._program.width:
            return False
        self._program.resize(width, [slot.row for slot in stacked if slot.row is not None])
        for row, slot in enumerate(stacked):
            slot.row = row
        self._wasted = 0.0
        return True

    def put(self, slot: Slot, values: State, numbers: Sequence[NDArray[np.float32]]) -> None:
        """Give a lane, which gets a row if it has none, the values and the numbers of its model."""
        if slot.row is None:
            used = {one.row for one in self._slots}
            if used >= set(range(self._program.width)):
                self._resize(self._wanted(self._program.width + 1))
            slot.row = min(set(range(self._program.width)) - used)
        self._program.put(slot.row, values, numbers)

    def take(self, slot: Slot) -> State:
        """Return the values of a lane, to be when its steps have ended, and free its row."""
        assert slot.row is not None
        row, slot.row = slot.row, None
        return self._program.take(row)

    def drop(self, slot: Slot) -> None:
        """Free the row of a lane, whose values nobody needs."""
        if slot.row is not None:
            # What its last trial has left may not be finite, and operations on that are slow.
            self._program.reset(slot.row)
            slot.row = None

    def train(self, chosen: Chosen, count: int, room: int) -> Mapping[str, Any]:
        """Begin to train the next `count` batches of these lanes, or all of those that have fewer, in one call.

        The program is compiled for a number of steps, `room`. Returned are the metrics of all steps and rows
        (steps, rows) to be.
        """
        width = self._program.width
        active = np.zeros((room, width), bool)
        for slot, batches in chosen:
            active[: min(count, len(batches)), slot.row] = True
        arrays = _stacked(chosen, count, room, width)
        began_at = time.perf_counter()
        if room == 1:
            logs = self._program.train(active[0], [array[0] for array in arrays])
        else:
            logs = self._program.train_block(active, count, arrays)
        # A call returns once it is compiled, before it is computed.
        self._compiled.setdefault(width, time.perf_counter() - began_at)
        self.computed += count * width
        for slot, batches in chosen:
            assert slot.row is not None
            for step, (chunk, index) in enumerate(batches[:count]):
                chunk.done, chunk.place = index + 1, (step, slot.row)
        return logs

    def note_waste(self, trials: int, seconds: float) -> None:
        """Note that steps of so many trials took so many seconds, of which empty rows took their share."""
        wanted = self._wanted(trials)
        if wanted < self._program.width:
            self._wasted += seconds * (1 - wanted / self._program.width)


def _stacked(chosen: Chosen, count: int, room: int, width: int) -> list[NDArray[Any]]:
    """Return the arrays of the next batches (room, rows, batch, …); zeros where a row has none."""
    found = []
    for position, model in enumerate(chosen[0][1][0][0].arrays):
        # New ones each time: the device may read them from the host's memory.
        array = np.zeros((room, width, *model.shape[1:]), model.dtype)
        for slot, batches in chosen:
            for step, (chunk, index) in enumerate(batches[:count]):
                array[step, slot.row] = chunk.arrays[position][index]
        found.append(array)
    return found
