"""The executor of lanes: it trains the batches that the lanes' threads submit, as many lanes at a time as are ready.

One thread owns the program and the stacked state. Before each step it takes what lanes ask for: a state to put into
the stack, or to take out. A step then trains the next batch of each lane that has one. Lanes that validate, load or
wait for an answer have none: their state lies in their own model, and they are not waited for. A lane that is between
two chunks of batches is waited for as long as a step without it would waste, and no longer.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any

import jax
import keras
import numpy as np
from numpy.typing import NDArray

from objectives.backend import lane as current_lane
from objectives.backend.base import Batch
from objectives.backend.jax_steps import State
from objectives.backend.lane import Decision
from objectives.errors import FreshProcessError
from objectives.lanes.program import BLOCK_STEPS, LaneProgram
from objectives.lanes.work import Chunk, LanesClosedError, Request, Slot

PATIENCE_SECONDS = 0.25
"""Longest wait for a lane that is between two chunks."""
FIRST_PATIENCE_SECONDS = 0.05
"""The same before the time of a step is known."""
MOST_AHEAD = 4
"""Largest number of steps that the device has not ended."""


class Executor:
    """Trains lanes of one shape in one program; its thread starts with the first batch."""

    def __init__(self, width: int) -> None:
        """`width` is the number of lanes."""
        self.width = width
        self.shape: str | None = None
        """Identity of the program; None before the first trial."""
        self.slots = [Slot(index) for index in range(width)]
        # XLA computes convolutions slowly in loops of a processor.
        self.blocks = jax.default_backend() != "cpu"
        """Whether a call may train several batches."""
        self.steps = 0
        """Number of steps so far."""
        self.trained = 0
        """Number of batches so far, over all lanes."""
        self._template: Callable[[], keras.Model] | None = None
        self._program: LaneProgram | None = None
        self._changed = threading.Condition()
        self._requests: deque[Request] = deque()
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None
        self._closed = False
        self._deciding = threading.Lock()
        self._decisions: list[Any] = []
        self._ahead: deque[tuple[Any, int, float]] = deque()
        self._step_seconds: float | None = None

    # Called by lanes.

    def admit(self, shape: str | None, make: Callable[[], keras.Model]) -> None:
        """Take the first trial's shape, and check that of the others; `make` makes the model that is traced.

        Raises:
            FreshProcessError: this executor does not train this shape.
        """
        with self._changed:
            if shape is None or self.shape not in (None, shape):
                raise FreshProcessError
            if self.shape is None:
                self.shape, model = shape, make()
                self._template = lambda: model

    def decide(self, make: Callable[[], Decision]) -> Decision:
        """Return the first lane's decision of what has to be the same in all lanes."""
        with self._deciding:
            if not self._decisions:
                self._decisions.append(make())
            found: Decision = self._decisions[0]
            return found

    def begin(self, targets: NDArray[Any], batch: Batch | None, resident: Sequence[Any]) -> None:
        """Make the program at the first call; later ones are of the same shape."""
        with self._changed:
            if self._program is None:
                assert self._template is not None
                self._program = LaneProgram(self._template(), targets, batch, resident, self.width)

    def submit(self, slot: Slot, chunk: Chunk, state: Callable[[], tuple[State, Any]]) -> None:
        """Queue batches of a lane; `state` returns values and numbers of its model, put in if not in the stack."""
        found = None if slot.stacked else state()
        with self._changed:
            program = self._opened()
            if found is not None:
                given, own = found
                self._requests.append(Request(lambda: program.put(slot.index, given, own)))
                slot.stacked = True
            slot.chunks.append(chunk)
            if self._thread is None:
                self._thread = threading.Thread(target=self._serve, name="lanes", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def collect(self, slot: Slot) -> State | None:
        """Take the values of a lane out of the stack, after its batches; None if they are in its model.

        Raises:
            LanesClosedError: the executor has failed, or was closed.
        """
        if not slot.stacked:
            return None
        with self._changed:
            program = self._opened()
            request = Request(lambda: program.take(slot.index))
            slot.stacked = False
            self._requests.append(request)
            self._changed.notify_all()
        found: State = request.result.result()
        return found

    def release(self, slot: Slot) -> None:
        """Drop the batches of a lane whose trial has ended, and its state."""
        with self._changed:
            slot.chunks.clear()
            slot.stacked = slot.taken = False
            program = self._program
            if program is not None and self._thread is not None and not self._closed:
                self._requests.append(Request(lambda: program.reset(slot.index)))
            self._changed.notify_all()

    def close(self) -> None:
        """End the thread; lanes that still train get a LanesClosedError."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join()

    def _opened(self) -> LaneProgram:
        if self._error is not None:
            raise LanesClosedError("the program of all lanes has failed") from self._error
        if self._closed:
            raise LanesClosedError("the lanes are closed")
        assert self._program is not None
        return self._program

    # In the executor's thread.

    def _serve(self) -> None:
        try:
            while self._turn():
                pass
        except BaseException as exc:  # noqa: BLE001 - raised again in the lanes, whose trials fail by it
            self._error = exc
        with self._changed:
            self._closed = True
            error = LanesClosedError("the lanes are closed")
            if self._error is not None:
                error = LanesClosedError("the program of all lanes has failed")
                error.__cause__ = self._error
            for future in self._waited_for():
                future.set_exception(error)

    def _waited_for(self) -> Iterator[Future[Any]]:
        """Yield what lanes wait for."""
        for slot in self.slots:
            yield from (chunk.metrics for chunk in slot.chunks)
        yield from (request.result for request in self._requests)

    def _turn(self) -> bool:
        """Fulfil requests and train one step or block; return False once closed."""
        with self._changed:
            if not (self._requests or self._ready() or self._closed):
                # Idle time is not that of a step.
                self._ahead.clear()
                self._changed.wait_for(lambda: self._closed or self._requests or self._ready())
            self._await_others()
            if self._closed:
                return False
            chosen = [(slot, slot.chunks[0]) for slot in self._ready()]
            count = len(self._requests)
        for _ in range(count):
            # It stays in the queue until it is done, so that an error reaches the lane that waits for it.
            self._requests[0].result.set_result(self._requests[0].action())
            self._requests.popleft()
        if chosen:
            self._train(chosen)
        return True

    def _ready(self) -> list[Slot]:
        return [slot for slot in self.slots if slot.chunks]

    def _await_others(self) -> None:
        """Wait for lanes that are between two chunks, no longer than their share of a step."""
        end = time.monotonic() + PATIENCE_SECONDS
        began_at = time.monotonic()
        while not (self._closed or self._requests):
            ready = self._ready()
            missing = sum(slot.stacked and not slot.chunks for slot in self.slots)
            if not ready or not missing:
                return
            step = FIRST_PATIENCE_SECONDS if self._step_seconds is None else self._step_seconds
            until = min(end, began_at + step * missing / (missing + len(ready)))
            if (left := until - time.monotonic()) <= 0 or not self._changed.wait(left):
                return

    def _train(self, chosen: Sequence[tuple[Slot, Chunk]]) -> None:
        assert self._program is not None
        blocks = self.blocks and all(chunk.left >= BLOCK_STEPS for _, chunk in chosen)
        count = BLOCK_STEPS if blocks else 1
        active = np.zeros(self.width, bool)
        active[[slot.index for slot, _ in chosen]] = True
        if blocks:
            steps = [self._stacked(chosen, step) for step in range(count)]
            logs = self._program.train_block(active, [np.stack(each) for each in zip(*steps, strict=True)])
        else:
            logs = self._program.train(active, self._stacked(chosen, 0))
        self.steps += count
        self.trained += count * len(chosen)
        with self._changed:
            for slot, chunk in chosen:
                chunk.done += count
                if not chunk.left:
                    if slot.chunks and slot.chunks[0] is chunk:
                        slot.chunks.popleft()
                    chunk.metrics.set_result(logs)
        self._limit_ahead(logs, count)

    def _stacked(self, chosen: Sequence[tuple[Slot, Chunk]], step: int) -> list[NDArray[Any]]:
        """Return the arrays of the next batch of each lane (lanes, batch, …); zeros for those that have none."""
        found = []
        for position, model in enumerate(chosen[0][1].arrays):
            # New ones each time: the device may read them from the host's memory.
            array = np.zeros((self.width, *model.shape[1:]), model.dtype)
            for slot, chunk in chosen:
                array[slot.index] = chunk.arrays[position][chunk.done + step]
            found.append(array)
        return found

    def _limit_ahead(self, logs: Mapping[str, Any], count: int) -> None:
        """Wait until the device has few steps to go, and note how long a step takes."""
        self._ahead.append((logs, count, time.perf_counter()))
        if len(self._ahead) <= MOST_AHEAD:
            return
        old, _, began_at = self._ahead.popleft()
        jax.block_until_ready(old)
        steps = sum(more for _, more, _ in self._ahead)
        seconds = (time.perf_counter() - began_at) / max(1, steps)
        before = self._step_seconds
        self._step_seconds = seconds if before is None else 0.8 * before + 0.2 * seconds


@contextmanager
def entered(executor: Executor, index: int, lane: current_lane.Lane) -> Iterator[None]:
    """Let this thread train in a lane, which it leaves empty."""
    slot = executor.slots[index]
    with executor._changed:
        if slot.taken:
            raise ValueError(f"lane {index} trains another trial")
        if executor._closed:
            raise LanesClosedError("the lanes are closed")
        slot.taken = True
    try:
        with current_lane.entered(lane):
            yield
    finally:
        executor.release(slot)
