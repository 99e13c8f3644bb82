"""The executor trains what is ready, waits no longer than that is worth, and fails for all lanes at once."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from objectives import backend

if backend.name() != "jax":
    pytest.skip("lanes need JAX: KERAS_BACKEND=jax", allow_module_level=True)

from objectives.lanes.executor import Executor
from objectives.lanes.work import Chunk, LanesClosedError


class FakeProgram:
    """Adds up what each lane trains on."""

    def __init__(self, width: int) -> None:
        self.sums = np.zeros(width)
        self.trained: list[list[int]] = []
        self.fails: Exception | None = None
        self.hold: threading.Event | None = None
        self.begun = threading.Event()

    def train(self, active, arrays):
        self.begun.set()
        if self.hold is not None:
            assert self.hold.wait(30)
        if self.fails is not None:
            raise self.fails
        self.trained.append(np.flatnonzero(active).tolist())
        self.sums = self.sums + np.where(active, arrays[0][:, 0], 0)
        return {"loss": self.sums}

    def put(self, lane, values, _):
        self.sums = self.sums.copy()
        self.sums[lane] = values

    def take(self, lane):
        return self.sums[lane]

    def reset(self, lane):
        self.put(lane, 0.0, None)


@pytest.fixture
def executor():
    found = Executor(3)
    found._program = FakeProgram(3)
    yield found
    found.close()


def _submit(executor: Executor, lane: int, batches: list[float], state: float = 0.0) -> Chunk:
    chunk = Chunk([np.array(batches)[:, None]])
    executor.submit(executor.slots[lane], chunk, lambda: (state, None))
    return chunk


def test_lanes_of_different_lengths_share_their_steps(executor):
    program = executor._program
    program.hold = threading.Event()
    chunks = [_submit(executor, 0, [1, 2, 3]), _submit(executor, 2, [10, 20], state=100)]
    program.hold.set()
    assert [float(one.metrics.result()["loss"][lane]) for one, lane in zip(chunks, (0, 2), strict=True)] == [
        6,
        130,
    ]
    assert executor.collect(executor.slots[2]) == 130
    assert executor.collect(executor.slots[2]) is None, "its state is in the model again"
    assert [0] in program.trained, "a lane is not held up by one that has no batch"
    assert [0, 2] in program.trained


def test_lane_that_does_not_come_back_holds_up_no_other(executor):
    first = _submit(executor, 1, [1])
    first.metrics.result(30)
    # Lane 1 is between two chunks, for longer than the executor waits.
    assert float(_submit(executor, 0, [5]).metrics.result(30)["loss"][0]) == 5


def test_failure_of_the_program_reaches_every_lane(executor):
    program = executor._program
    program.hold, program.fails = threading.Event(), MemoryError("RESOURCE_EXHAUSTED")
    chunks = [_submit(executor, lane, [1]) for lane in range(3)]
    program.hold.set()
    for chunk in chunks:
        with pytest.raises(LanesClosedError) as caught:
            chunk.metrics.result(30)
        assert backend.is_out_of_memory(caught.value)
    with pytest.raises(LanesClosedError, match="has failed"):
        _submit(executor, 0, [1])


def test_closing_ends_waiting_lanes(executor):
    program = executor._program
    program.hold = threading.Event()
    _submit(executor, 0, [1, 2])
    assert program.begun.wait(30)
    waiting = _submit(executor, 1, [1])
    closing = threading.Thread(target=executor.close)
    closing.start()
    while not executor._closed:
        pass
    program.hold.set()
    closing.join(30)
    with pytest.raises(LanesClosedError, match="closed"):
        waiting.metrics.result(30)


def test_released_lane_is_dropped_and_reset(executor):
    _submit(executor, 0, [1, 2, 3], state=7).metrics.result(30)
    executor.release(executor.slots[0])
    assert float(_submit(executor, 1, [1]).metrics.result(30)["loss"][0]) == 0
