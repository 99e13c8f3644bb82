"""The executor of lanes: it trains the batches that the lanes' threads submit, as many lanes at a time as are ready.

One thread owns the program and the stacked state. Before each step it takes what lanes ask for: a state to put into
the stack, or to take out. A step then trains the next batch of each lane that has one. Lanes that validate, load or
wait for an answer have none: their state lies in their own model, and they are not waited for. A lane that is between
two chunks of batches is waited for as long as a step without it would waste, and no longer.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from typing import Any

import jax
import keras
from numpy.typing import NDArray

from objectives.backend.base import Batch
from objectives.backend.jax_steps import State
from objectives.backend.lane import Decision
from objectives.errors import FreshProcessError
from objectives.lanes.ahead import StepsAhead
from objectives.lanes.program import BLOCK_STEPS, LaneProgram
from objectives.lanes.stack import Chosen, Stack, steps_of_call
from objectives.lanes.work import Chunk, LanesClosedError, Request, Slot

PATIENCE_SECONDS = 0.25
"""Longest wait for a lane that is between two chunks."""
FIRST_PATIENCE_SECONDS = 0.05
"""The same before the time of a step is known."""
GATHER_SECONDS = 0.5
"""Time without a new trial after which the program is compiled for more lanes."""
MOST_GATHER_SECONDS = 20.0
"""Longest wait for further trials before that."""
_POLL_SECONDS = 0.1

_FAILED = "the program of all lanes has failed"


class Executor:
    """Trains lanes of one shape in one program; its thread starts with the first batch."""

    def __init__(self, width: int, coming: Callable[[], int] = lambda: 0) -> None:
        """`width` is the number of lanes, `coming` returns the number of trials that may enter one soon."""
        self.width, self._coming = width, coming
        self.shape: str | None = None
        """Identity of the program; None before the first trial."""
        self.slots = [Slot(index) for index in range(width)]
        # XLA computes convolutions slowly in loops of a processor.
        self.blocks = jax.default_backend() != "cpu"
        """Whether a call may train several batches."""
        self.calls = self.steps = self.trained = 0
        """Numbers of calls of the program, of their steps, and of the batches of all lanes so far."""
        self._template: Callable[[], keras.Model] | None = None
        self._stack: Stack | None = None
        self._changed = threading.Condition()
        self._requests: deque[Request] = deque()
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None
        self._closed = False
        self._deciding = threading.Lock()
        self._decisions: list[Any] = []
        self._ahead = StepsAhead()
        self._entered_at = -math.inf

    @property
    def _room(self) -> int:
        """Number of steps for which a call is compiled."""
        return BLOCK_STEPS if self.blocks else 1

    @property
    def fullness(self) -> float:
        """Share of the computed batches that were those of a trial, from 0 to 1; 0 before the first step."""
        return 0.0 if self._stack is None else self.trained / max(1, self._stack.computed)

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
            if self._stack is None:
                assert self._template is not None
                program = LaneProgram(self._template(), targets, batch, resident, width=1)
                self._stack = Stack(program, self.slots)

    def submit(self, slot: Slot, chunk: Chunk, state: Callable[[], tuple[State, Any]]) -> None:
        """Queue batches of a lane; `state` returns values and numbers of its model, put in if not in the stack."""
        slot.check_ended()
        found = None if slot.stacked else state()
        with self._changed:
            stack = self._opened()
            if found is not None:
                given, own = found
                self._requests.append(Request(lambda: stack.put(slot, given, own)))
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
            LaneEndedError: the lane's trial has been ended.
        """
        if not slot.stacked:
            return None
        with self._changed:
            stack = self._opened()
            request = Request(lambda: stack.take(slot))
            slot.stacked = False
            self._requests.append(request)
            self._changed.notify_all()
        found: State = slot.wait(request.result)
        return found

    def release(self, slot: Slot) -> None:
        """Drop the batches of a lane whose trial has ended, and its state."""
        with self._changed:
            slot.chunks.clear()
            slot.stacked = slot.taken = False
            stack = self._stack
            if stack is not None and self._thread is not None and not self._closed:
                self._requests.append(Request(lambda: stack.drop(slot)))
            self._changed.notify_all()

    def enter(self, slot: Slot, ended: Future[None] | None = None) -> None:
        """Give a lane to the trial of this thread, which ends where it waits once `ended` is done.

        Raises:
            ValueError: another thread trains in it.
            LanesClosedError: the lanes are closed.
        """
        with self._changed:
            if slot.taken:
                raise ValueError(f"lane {slot.index} trains another trial")
            if self._closed:
                raise LanesClosedError("the lanes are closed")
            slot.taken, slot.ended = True, ended or Future()
            self._entered_at = time.monotonic()
            self._changed.notify_all()

    def fail(self, error: BaseException) -> LanesClosedError:
        """End the program because of an error that a lane found where it read what the device has computed.

        Return the error that the lane raises, from the other one.
        """
        with self._changed:
            self._error = self._error or error
            self._closed = True
            self._changed.notify_all()
        return LanesClosedError(_FAILED)

    def close(self) -> None:
        """End the thread; lanes that still train get a LanesClosedError."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join()

    def _opened(self) -> Stack:
        if self._error is not None:
            raise LanesClosedError(_FAILED) from self._error
        if self._closed:
            raise LanesClosedError("the lanes are closed")
        assert self._stack is not None
        return self._stack

    # In the executor's thread.

    def _serve(self) -> None:
        try:
            while self._turn():
                pass
        except BaseException as exc:  # noqa: BLE001 - raised again in the lanes, whose trials fail by it
            self.fail(exc)
        with self._changed:
            self._closed = True
            error = LanesClosedError("the lanes are closed")
            if self._error is not None:
                error = LanesClosedError(_FAILED)
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
                self._ahead.interrupt()
                self._changed.wait_for(lambda: self._closed or self._requests or self._ready())
            self._await_others()
            self._await_trials()
            if self._closed:
                return False
            chosen = [(slot, slot.batches(self._room)) for slot in self._ready()]
            steps, count, trials = self._steps(), len(self._requests), self._trials()
        self._fit(trials)
        for _ in range(count):
            # It stays in the queue until it is done, so that an error reaches the lane that waits for it.
            self._requests[0].result.set_result(self._requests[0].action())
            self._requests.popleft()
        if chosen:
            # Again, because some have freed their rows.
            self._fit(trials)
            self._train(chosen, steps, trials)
        return True

    def _fit(self, trials: int) -> None:
        assert self._stack is not None
        if self._stack.fit(trials):
            self._ahead.restart()

    def _ready(self) -> list[Slot]:
        return [slot for slot in self.slots if slot.chunks]

    def _trials(self) -> int:
        return sum(slot.used for slot in self.slots)

    def _await_trials(self) -> None:
        """Wait until no further trial begins, if the program has to be compiled for those that have."""
        end = time.monotonic() + MOST_GATHER_SECONDS
        while self._ready() and (trials := self._trials()) < self.width and time.monotonic() < end:
            left = _POLL_SECONDS if self._coming() else self._entered_at + GATHER_SECONDS - time.monotonic()
            if self._closed or left <= 0 or self._opened().is_compiled(trials):
                return
            self._changed.wait(left)

    def _await_others(self) -> None:
        """Wait for lanes that are between two chunks, no longer than their share of a step."""
        began_at = time.monotonic()
        while not (self._closed or self._requests):
            ready = self._ready()
            missing = sum(slot.stacked and not slot.chunks for slot in self.slots)
            if not ready or not missing:
                return
            step = self._ahead.step_seconds
            seconds = FIRST_PATIENCE_SECONDS if step is None else step * self._steps()
            until = began_at + min(PATIENCE_SECONDS, seconds * missing / (missing + len(ready)))
            if (left := until - time.monotonic()) <= 0 or not self._changed.wait(left):
                return

    def _steps(self) -> int:
        """Return the number of steps of the next call, by the batches of all lanes that are in an epoch."""
        lefts = [len(slot.batches(self._room)) for slot in self.slots if slot.stacked or slot.chunks]
        return steps_of_call(lefts, self._room) if any(lefts) else 0

    def _train(self, chosen: Chosen, count: int, trials: int) -> None:
        assert self._stack is not None
        logs = self._stack.train(chosen, count, self._room)
        self.calls += 1
        self.steps += count
        self.trained += sum(min(count, len(batches)) for _, batches in chosen)
        with self._changed:
            for slot, batches in chosen:
                for chunk in dict.fromkeys(chunk for chunk, _ in batches[:count]):
                    if not chunk.left:
                        if slot.chunks and slot.chunks[0] is chunk:
                            slot.chunks.popleft()
                        chunk.metrics.set_result(logs)
        self._ahead.add(logs, count)
        if (seconds := self._ahead.step_seconds) is not None:
            self._stack.note_waste(trials, count * seconds)
