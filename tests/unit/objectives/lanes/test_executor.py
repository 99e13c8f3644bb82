"""The executor trains what is ready, waits no longer than that is worth, and fails for all lanes at once."""

from __future__ import annotations

import threading
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import pytest

from objectives import backend

if backend.name() != "jax":
    pytest.skip("lanes need JAX: KERAS_BACKEND=jax", allow_module_level=True)

from objectives.errors import LaneEndedError
from objectives.lanes import executor as executor_module
from objectives.lanes.executor import Executor
from objectives.lanes.stack import Stack, steps_of_call
from objectives.lanes.work import Chunk, LanesClosedError, Slot


class FakeProgram:
    """Adds up what each row trains on."""

    def __init__(self) -> None:
        self.sums = np.zeros(1)
        self.trained: list[list[int]] = []
        self.widths: list[int] = []
        self.blocks: list[list[int]] = []
        """Number of batches of each row in each call of several steps."""
        self.fails: Exception | None = None
        self.hold: threading.Event | None = None
        self.begun = threading.Event()

    @property
    def width(self) -> int:
        return len(self.sums)

    def train(self, active, arrays):
        self.begun.set()
        if self.hold is not None:
            assert self.hold.wait(30)
        if self.fails is not None:
            raise self.fails
        assert len(arrays[0]) == len(active) == self.width
        self.widths.append(self.width)
        self.trained.append(np.flatnonzero(active).tolist())
        self.sums = self.sums + np.where(active, arrays[0][:, 0], 0)
        return {"loss": self.sums[None]}

    def train_block(self, active, count, arrays):
        assert len(active) == len(arrays[0]) >= count
        self.blocks.append(active[:count].sum(0).tolist())
        losses = [self.train(active[step], [arrays[0][step]])["loss"] for step in range(count)]
        return {"loss": np.concatenate([*losses, np.full((len(active) - count, self.width), np.nan)])}

    def resize(self, width, kept):
        self.sums = np.concatenate([self.sums[list(kept)], np.zeros(width - len(kept))])

    def put(self, row, values, _):
        self.sums = self.sums.copy()
        self.sums[row] = values

    def take(self, row):
        return self.sums[row]

    def reset(self, row):
        self.put(row, 0.0, None)


@pytest.fixture
def program() -> FakeProgram:
    return FakeProgram()


@pytest.fixture
def executor(program):
    found = Executor(3)
    found._stack = Stack(program, found.slots)
    yield found
    found.close()


def _loss(chunk: Chunk) -> float:
    return float(chunk.metrics.result(30)["loss"][chunk.place])


def _submit(executor: Executor, lane: int, batches: list[float], state: float = 0.0) -> Chunk:
    chunk = Chunk([np.array(batches)[:, None]])
    executor.submit(executor.slots[lane], chunk, lambda: (state, None))
    return chunk


def test_lanes_of_different_lengths_share_their_steps(executor, program):
    program.hold = threading.Event()
    chunks = [_submit(executor, 0, [1, 2, 3]), _submit(executor, 2, [10, 20], state=100)]
    program.hold.set()
    assert [_loss(one) for one in chunks] == [6, 130]
    assert executor.collect(executor.slots[2]) == 130
    assert executor.collect(executor.slots[2]) is None, "its state is in the model again"
    assert [0] in program.trained, "a lane is not held up by one that has no batch"
    assert [0, 1] in program.trained


def test_block_takes_what_each_lane_has_from_as_many_chunks_as_that_takes(executor, program):
    executor.blocks = True
    program.hold = threading.Event()
    first = _submit(executor, 0, [1])
    assert program.begun.wait(30)
    # Queued while the first call is computed: eight batches, seven in three chunks, and six in two.
    chunks = [
        _submit(executor, 0, [1] * 8),
        *(_submit(executor, 1, batches, state=100) for batches in ([1, 2], [3], [4] * 4)),
        *(_submit(executor, 2, batches, state=200) for batches in ([10] * 5, [5])),
    ]
    program.hold.set()
    assert _loss(first) == 1
    assert [_loss(one) for one in chunks] == [9, 103, 106, 122, 250, 255]
    assert program.blocks == [[1], [8, 7, 6]]
    assert (executor.calls, executor.steps, executor.trained) == (2, 9, 22)
    assert [executor.collect(slot) for slot in executor.slots] == [9, 122, 255]


@pytest.mark.parametrize(
    ("lefts", "steps"),
    [([8, 8, 8], 8), ([1], 1), ([3], 3), ([1, 8, 8, 8], 8), ([1, 1, 8, 8], 2), ([1, 8], 2), ([2, 8], 4)],
)
def test_call_has_as_many_steps_as_leave_a_quarter_of_its_batches_empty(lefts, steps):
    assert steps_of_call(lefts, 8) == steps


def test_ended_lane_leaves_while_the_program_compiles_and_the_others_go_on(executor, program):
    program.hold = threading.Event()
    slot, ended = executor.slots[0], Future()
    executor.enter(slot, ended)
    executor.enter(executor.slots[1])
    ill, other = _submit(executor, 0, [1]), _submit(executor, 1, [10])
    assert program.begun.wait(30)
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(slot.wait, ill.metrics)
        ended.set_result(None)
        with pytest.raises(LaneEndedError):
            waiting.result(30)
    with pytest.raises(LaneEndedError):
        _submit(executor, 0, [1])
    executor.release(slot)
    # The next trial has the lane before the program is compiled.
    executor.enter(slot)
    after = _submit(executor, 0, [5], state=100)
    assert not other.metrics.done()
    program.hold.set()
    assert [_loss(other), _loss(after)] == [10, 105]


def test_lane_that_does_not_come_back_holds_up_no_other(executor):
    first = _submit(executor, 1, [1])
    first.metrics.result(30)
    # Lane 1 is between two chunks, for longer than the executor waits.
    assert _loss(_submit(executor, 0, [5])) == 5


def test_failure_of_the_program_reaches_every_lane(executor, program):
    program.hold, program.fails = threading.Event(), MemoryError("RESOURCE_EXHAUSTED")
    chunks = [_submit(executor, lane, [1]) for lane in range(3)]
    program.hold.set()
    for chunk in chunks:
        with pytest.raises(LanesClosedError) as caught:
            chunk.metrics.result(30)
        assert backend.is_out_of_memory(caught.value)
    with pytest.raises(LanesClosedError, match="has failed"):
        _submit(executor, 0, [1])


def test_closing_ends_waiting_lanes(executor, program):
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
    assert _loss(_submit(executor, 1, [1])) == 1
    executor.release(executor.slots[1])
    _submit(executor, 2, [1], state=5).metrics.result(30)
    assert executor.collect(executor.slots[2]) == 6


def test_program_is_as_wide_as_the_trials_need(executor, program):
    first = executor.slots[1]
    _submit(executor, 1, [1, 1], state=10).metrics.result(30)
    assert program.width == 1
    # Their states move to other rows, and go on there.
    chunks = [_submit(executor, lane, [5], state=20 * lane) for lane in (0, 2)]
    assert [_loss(one) for one in chunks] == [5, 45]
    assert program.width == 3
    assert _loss(_submit(executor, 1, [100])) == 112
    for slot in (executor.slots[0], executor.slots[2]):
        executor.release(slot)
    # One row was compiled before, and three cost no less.
    assert _loss(_submit(executor, 1, [1000])) == 1112
    assert program.width == 1
    assert executor.collect(first) == 1112
    assert executor.fullness == executor.trained / sum(program.widths)


def test_narrower_program_is_compiled_once_the_wide_one_has_wasted_as_much_time():
    program, slots = FakeProgram(), [Slot(index) for index in range(4)]
    stack = Stack(program, slots)
    stack._compiled = {4: 10.0}
    assert stack.fit(4)
    assert not stack.fit(2), "two rows are not compiled"
    stack.note_waste(2, 19.0)
    assert not stack.fit(2), "half of 19 seconds are less than the 10 of compiling"
    stack.note_waste(2, 2.0)
    assert stack.fit(2)
    assert program.width == 2
    stack.note_waste(2, 1e9)
    assert not stack.fit(2)


def test_trials_that_begin_at_once_share_one_compilation(executor, program, monkeypatch):
    monkeypatch.setattr(executor_module, "GATHER_SECONDS", 30.0)
    for slot in executor.slots[:2]:
        executor.enter(slot)
    first = _submit(executor, 0, [1])
    assert not program.begun.wait(0.1), "it waits for further trials"
    executor.enter(executor.slots[2])
    # Now all lanes have one: at once, long before the time is over.
    assert float(first.metrics.result(10)["loss"][first.place]) == 1
    assert program.widths == [3]
