"""The stack of a program keeps the states of its lanes when its width changes."""

from __future__ import annotations

import numpy as np
import pytest

from objectives import backend

if backend.name() != "jax":
    pytest.skip("lanes need JAX: KERAS_BACKEND=jax", allow_module_level=True)

import jax

from objectives.base import DataOptions
from objectives.device import Device
from objectives.lanes import width
from objectives.lanes.program import LaneProgram
from tests.unit.objectives.lanes.small import Small


def test_rows_move_with_their_states() -> None:
    objective = Small()
    objective.prepare(DataOptions(limit=100), final=False)
    probe = width.probed(objective, dict(Small.first[0]), Device(precision="float32"))
    program = LaneProgram(probe.make(), probe.targets, probe.batch, probe.resident, width=2)
    numbers = [np.zeros_like(one) for one in program._initial_numbers]
    first, second = (
        jax.tree.map(lambda one, lane=lane: np.full_like(one, lane), program._initial) for lane in (1, 2)
    )
    program.put(0, first, [one + 1 for one in numbers])
    program.put(1, second, [one + 2 for one in numbers])
    for rows, kept, expected in ((4, [1, 0], [second, first]), (1, [1], [first])):
        program.resize(rows, kept)
        assert program.width == rows
        for row, state in enumerate(expected):
            jax.tree.map(np.testing.assert_array_equal, program.take(row), state)
    assert all((one == 1).all() for one in program._numbers)
    program.resize(2, [0])
    jax.tree.map(np.testing.assert_array_equal, program.take(1), program._initial)
    assert all(
        (one[1] == new).all() for one, new in zip(program._numbers, program._initial_numbers, strict=True)
    )
