"""Lanes that share a program of JAX, one for each shape of what they train (`objectives.lanes`)."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

import jax

from hpo.trainer.ends.failures import one_line
from hpo.trainer.ends.outcome import is_want_of_memory
from hpo.trainer.lanes.places import NotInLanesError, Places
from hpo.trainer.memory import give_back
from objectives.base import Objective, Params
from objectives.device import Device
from objectives.errors import FreshProcessError, SharedFailureError
from objectives.lanes.lanes import Lanes
from objectives.lanes.shape import NotLanedError, shape_of
from objectives.lanes.work import LanesClosedError
from objectives.spaces.choices import declared

MOST_CLOSING_SECONDS = 1.0
"""Longest wait for the memory of programs that are closed."""

MOST_IDLE = 4
"""Number of programs without a trial that are kept, with their memory, for trials of their shape to come."""


@dataclass(eq=False)
class _Program:
    lanes: Lanes
    trials: int = 0
    """Number of trials that are trained by it."""
    error: str = ""
    """Why it has failed; empty: it has not."""
    shared: bool = False
    """Whether other trials, or what is kept of them, may be at fault for its failure."""


class Programs(Places):
    """The programs of one process by their shapes."""

    def __init__(self, device: Device) -> None:
        """Train in the lanes of a device."""
        self._device = device
        self._changing = threading.Lock()
        self._programs: OrderedDict[str, _Program] = OrderedDict()
        self._announced: set[int] = set()
        self._running: set[int] = set()
        """Lanes with a trial."""
        self._involved: set[int] = set()
        """Those whose trials were there when memory ran out or the device failed."""
        self._closing = 0
        """Number of times that programs are being closed, whose memory is not free yet."""
        self.broken = False

    @contextmanager
    def announced(self, index: int) -> Iterator[None]:
        self._announced.add(index)
        try:
            yield
        finally:
            self._announced.discard(index)

    def shape(self, objective: Objective, params: Params, epochs: int | None) -> str:
        try:
            return shape_of(objective, declared(params, objective.space), device=self._device, epochs=epochs)
        except NotLanedError as exc:
            raise NotInLanesError(str(exc)) from exc

    def lane(self, shape: str, index: int, ended: Future[None]) -> AbstractContextManager[object]:
        return self._lane(shape, index, ended)

    @contextmanager
    def _lane(self, shape: str, index: int, ended: Future[None]) -> Iterator[None]:
        program = self._enter(shape, index)
        try:
            with program.lanes.lane(index, ended):
                self._announced.discard(index)
                yield
        except LanesClosedError as exc:
            cause = exc.__cause__ or exc
            if self._fail(shape, program, index, cause):
                raise SharedFailureError(
                    f"the program of several trials has failed: {program.error}"
                ) from exc
            # It was the only one: as in a process of its own.
            raise cause from exc
        except FreshProcessError as exc:
            raise SharedFailureError("it has another shape than was found before it began") from exc
        except BaseException as exc:
            # Memory is that of all, also where one trial asks for it: for the program's state, or to validate.
            if is_want_of_memory(exc, self._device.gpu):
                if self._fail(shape, program, index, exc):
                    reason = f"memory that several trials share has run out: {one_line(exc)}"
                    raise SharedFailureError(reason) from exc
            elif isinstance(exc, jax.errors.JaxRuntimeError) and self._breaks(index):
                # An error of a GPU's context shows in whatever comes next, in any trial.
                raise SharedFailureError(f"the device of several trials has failed: {one_line(exc)}") from exc
            raise
        finally:
            with self._changing:
                program.trials -= 1
                self._running.discard(index)
                self._involved.discard(index)

    def _enter(self, shape: str, index: int) -> _Program:
        """Return the program of a shape, kept or new, with one trial more."""
        with self._changing:
            if shape not in self._programs:
                self._programs[shape] = _Program(Lanes(self._device.lanes, lambda: len(self._announced)))
            self._programs.move_to_end(shape)
            self._programs[shape].trials += 1
            self._running.add(index)
            dropped = self._idle(MOST_IDLE)
            found = self._programs[shape]
        if dropped:
            self._close(dropped)
        return found

    def drop_idle(self) -> None:
        with self._changing:
            dropped = self._idle(0)
        self._close(dropped).join(MOST_CLOSING_SECONDS)

    def _idle(self, kept: int) -> list[_Program]:
        """Remove and return the programs without a trial, but for some that were used last."""
        idle = [key for key, one in self._programs.items() if not one.trials]
        return [self._programs.pop(key) for key in idle[: max(len(idle) - kept, 0)]]

    def _fail(self, shape: str, program: _Program, index: int, error: BaseException) -> bool:
        """End a program, which later trials do not use; return whether other trials may be at fault for its failure.

        Programs without a trial have memory, too.
        """
        wants_memory = is_want_of_memory(error, self._device.gpu)
        breaks = not wants_memory and isinstance(error, jax.errors.JaxRuntimeError)
        shared = breaks and self._breaks(index)
        with self._changing:
            dropped = self._idle(0) if wants_memory else []
            if wants_memory:
                shared = self._meets(index) or bool(dropped or self._closing)
            elif not breaks:
                shared = program.trials > 1
            if not program.error:
                program.error, program.shared = one_line(error), shared
                if self._programs.get(shape) is program:
                    del self._programs[shape]
        self._close([program, *dropped]).join(MOST_CLOSING_SECONDS)
        return program.shared or shared

    def _breaks(self, index: int) -> bool:
        """Note that the device has failed; return whether another trial than that of a lane may be at fault.

        A GPU may compute nothing more in this process, also for trials that begin after the one that is at fault.
        """
        with self._changing:
            shared = self._meets(index) or self.broken
            self.broken = True
        return shared

    def _meets(self, index: int) -> bool:
        """Return whether other trials meet, or have met, the failure that the trial of a lane meets.

        They leave one after another, so that the last one has none beside it.
        """
        shared = index in self._involved or len(self._running) > 1
        if shared:
            self._involved |= self._running
        return shared

    def _close(self, programs: list[_Program]) -> threading.Thread:
        """Close programs in a thread: one of them may be compiling for a trial that has been ended."""
        with self._changing:
            self._closing += 1

        def close() -> None:
            try:
                _close(programs)
            finally:
                with self._changing:
                    self._closing -= 1

        thread = threading.Thread(target=close, name="closing", daemon=True)
        thread.start()
        return thread


def _close(programs: list[_Program]) -> None:
    """End programs and give their memory back."""
    for one in programs:
        one.lanes.close()
    programs.clear()
    give_back()
