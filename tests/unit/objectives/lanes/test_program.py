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


@pytest.fixture(scope="module")
def probe() -> width.Probe:
    objective = Small()
    objective.prepare(DataOptions(limit=100), final=False)
    return width.probed(objective, {**Small.first[0], "batch_size": 16}, Device(precision="float32"))


def test_rows_of_a_block_train_as_many_batches_as_they_have(probe: width.Probe) -> None:
    """Weights, moments, counters and seeds are those of single steps, and of a row without batches those of before."""
    counts, room, rows = (3, 1, 0), 4, 3
    drawn = np.random.default_rng(0)
    arrays = [np.stack([drawn.permutation(array[0]) for _ in range(room * rows)]) for array in probe.arrays]
    arrays = [array.reshape(room, rows, *array.shape[1:]) for array in arrays]
    active = np.array([[step < count for count in counts] for step in range(room)])
    programs = [LaneProgram(probe.make(), probe.targets, probe.batch, probe.resident, rows) for _ in range(2)]
    numbers = [one + 0.01 for one in programs[0]._initial_numbers]
    for one in programs:
        for row in range(rows):
            one.put(row, programs[0]._initial, numbers)
    logs = programs[0].train_block(active, max(counts), arrays)
    singles = [
        programs[1].train(active[step], [array[step] for array in arrays]) for step in range(max(counts))
    ]
    for row, count in enumerate(counts):
        found, expected = (one.take(row) for one in programs)
        jax.tree.map(
            lambda mine, theirs: np.testing.assert_allclose(mine, theirs, atol=1e-6), found, expected
        )
        if count:
            losses = float(logs["loss"][count - 1, row]), float(singles[count - 1]["loss"][0, row])
            assert losses[0] == pytest.approx(losses[1], rel=1e-5)
            assert found[2][0] == count, "the optimizer's counter"
        else:
            jax.tree.map(np.testing.assert_array_equal, found, programs[0]._initial)


def test_rows_move_with_their_states(probe: width.Probe) -> None:
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
