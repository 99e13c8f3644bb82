"""A template and the trainers forked from it, one to a slot, as the agent sees them.

The pool owns every process it starts: closing it, or the death of the process that holds it,
ends them all. It knows nothing of studies or databases, so retraining uses the same.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import Pipe, reduction
from multiprocessing import connection as mp_connection
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import hpo.errors
from hpo.errors import HpoError, ObjectiveBrokenError
from hpo.messages import (
    Broken,
    Described,
    Exited,
    Finished,
    Fork,
    Forked,
    FromTrainer,
    Load,
    Ready,
    Start,
    Started,
    ToTrainer,
)
from objectives.base import Description, Device

MAX_TEMPLATE_DEATHS = 3
"""Templates in a row that may die before any trainer has started."""

CRASHES = (signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS)
"""How native code ends that goes wrong by itself, or is refused memory."""

STATUS_SECONDS = 1.0
"""How long to wait for the exit status of a trainer whose pipe has closed."""


@dataclass(frozen=True)
class Died:
    """A trainer ended without saying how."""

    reason: str
    crashed: bool = False
    """By itself, in native code: not killed from outside."""


@dataclass
class _Trainer:
    """A running trainer, seen from outside."""

    connection: Connection
    start: Start
    pid: int | None = None
    status: int | None = None


class TrainerPool:
    """Trainers in slots; not thread-safe."""

    def __init__(self, load: Load, devices: Sequence[Device], log: Path) -> None:
        self.devices = list(devices)
        self.versions: dict[str, str] = {}
        self._load = load
        self._log = log
        self._template: Connection | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._ready = False
        self._deaths = 0
        self._trainers: dict[int, _Trainer] = {}
        self._events: deque[tuple[int, FromTrainer | Died]] = deque()
        self._description: Description | None = None

    def __enter__(self) -> TrainerPool:
        try:
            self._start_template()
        except BaseException:
            # A Ctrl-C while the process is being started: `__exit__` will not be called.
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def ready(self) -> bool:
        """Whether the template has loaded everything, so that a trainer starts at once."""
        return self._ready

    @property
    def busy(self) -> frozenset[int]:
        """Slots that have a trainer."""
        return frozenset(self._trainers)

    def free_slots(self) -> list[int]:
        """Slots without a trainer, lowest first."""
        return [slot for slot in range(len(self.devices)) if slot not in self._trainers]

    def describe(self) -> Description:
        """What the objective searches, as soon as the template knows.

        Raises:
            HpoError: the objective could not be imported.
        """
        while self._description is None:
            self._poll(None)
        return self._description

    def start(self, slot: int, start: Start) -> None:
        """Fork a trainer into a free slot and hand it its attempt."""
        ours, theirs = Pipe()
        try:
            self._request(Fork(slot, self.devices[slot]), theirs)
        finally:
            theirs.close()
        # A template that died with the request has closed the pipe: the trainer is then seen to have died.
        with suppress(OSError):
            ours.send(start)
        self._trainers[slot] = _Trainer(ours, start)

    def send(self, slot: int, message: ToTrainer) -> None:
        """Tell a trainer something; one that has just ended does not hear it."""
        if slot in self._trainers:
            with suppress(OSError):
                self._trainers[slot].connection.send(message)

    def kill(self, slot: int) -> None:
        """End a trainer at once; no event follows."""
        trainer = self._trainers.pop(slot, None)
        if trainer is None:
            return
        pid = trainer.pid
        if pid is not None and trainer.status is None:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        # One that has not said its process id yet ends when it sees its pipe closed.
        trainer.connection.close()

    def wait(self, timeout: float) -> list[tuple[int, FromTrainer | Died]]:
        """What trainers have said since the last call, waiting up to `timeout` seconds for the first.

        Raises:
            HpoError: the objective or its data cannot be loaded.
        """
        if not self._events:
            self._poll(timeout)
        events, self._events = list(self._events), deque()
        return events

    def close(self) -> None:
        """End all trainers and the template."""
        for slot in list(self._trainers):
            self.kill(slot)
        if self._template is not None:
            self._template.close()
            self._template = None
        if self._process is not None:
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(1.0)
            if self._process.poll() is None:
                self._process.kill()
                self._process.wait()
            self._process = None

    def _start_template(self) -> None:
        ours, theirs = Pipe()
        self._log.parent.mkdir(parents=True, exist_ok=True)
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                # -P: a folder named `hpo` where the user happens to stand must not be taken for ours.
                [sys.executable, "-P", "-m", "hpo.template", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=_template_environment(),
                # Its own session: a Ctrl-C at the terminal is for the agent to handle.
                start_new_session=True,
            )
        theirs.close()
        self._template, self._ready = ours, False
        ours.send(self._load)

    def _request(self, fork: Fork, theirs: Connection) -> None:
        """Ask the template for a trainer, starting another template if it has died."""
        for attempt in (1, 2):
            assert self._template is not None
            assert self._process is not None
            try:
                self._template.send(fork)
                reduction.send_handle(self._template, theirs.fileno(), self._process.pid)
                return
            except OSError:
                if attempt == 1:
                    self._template_died()

    def _poll(self, timeout: float | None) -> None:
        waiting: list[Any] = [trainer.connection for trainer in self._trainers.values()]
        if self._template is not None:
            waiting.append(self._template)
        if not waiting:
            time.sleep(timeout or 0.0)
            return
        ready = set(mp_connection.wait(waiting, timeout))
        # The template first: it says how a trainer ended whose pipe has closed.
        if self._template is not None and self._template in ready:
            self._hear_template()
        for slot, trainer in list(self._trainers.items()):
            if trainer.connection in ready:
                self._hear_trainer(slot, trainer)

    def _hear_template(self) -> None:
        assert self._template is not None
        try:
            message = self._template.recv()
        except (EOFError, OSError):
            self._template_died()
            return
        match message:
            case Described(description):
                self._description = description
            case Ready(_, versions):
                self._ready, self.versions = True, dict(versions)
            case Broken(name, text, traceback):
                error = getattr(hpo.errors, name, ObjectiveBrokenError)
                failure: HpoError = error(text)
                if traceback:
                    failure.add_note(traceback)
                raise failure
            case Forked(slot, pid):
                self._deaths = 0
                if slot in self._trainers and self._trainers[slot].pid is None:
                    self._trainers[slot].pid = pid
            case Exited(pid, status):
                for trainer in self._trainers.values():
                    if trainer.pid == pid:
                        trainer.status = status

    def _template_died(self) -> None:
        """Start another template; running trainers go on without."""
        if self._template is not None:
            self._template.close()
            self._template = None
        status = self._process.wait() if self._process is not None else None
        self._process, was_ready, self._ready = None, self._ready, False
        self._deaths += 1
        if self._deaths >= MAX_TEMPLATE_DEATHS or (not was_ready and self._description is None):
            how = f"signal {-status}" if status is not None and status < 0 else f"exit code {status}"
            raise ObjectiveBrokenError(
                f"the process that loads {self._load.objective} ended ({how}) before it could train:"
                f" see {self._log}"
            )
        self._start_template()

    def _hear_trainer(self, slot: int, trainer: _Trainer) -> None:
        try:
            message = trainer.connection.recv()
        except (EOFError, OSError):
            reason = self._how_it_ended(trainer)
            self._events.append((slot, Died(reason, -(trainer.status or 0) in CRASHES)))
            self._trainers.pop(slot).connection.close()
            return
        if isinstance(message, Started):
            trainer.pid = message.pid
        self._events.append((slot, message))
        if isinstance(message, Finished):
            self._trainers.pop(slot).connection.close()

    def _how_it_ended(self, trainer: _Trainer) -> str:
        until = time.monotonic() + STATUS_SECONDS
        while trainer.status is None and self._template is not None:
            left = until - time.monotonic()
            if left <= 0 or not self._template.poll(left):
                break
            self._hear_template()
        if trainer.status is None:
            return "its process ended without a word"
        if trainer.status < 0:
            name = signal.Signals(-trainer.status).name
            hint = " (out of memory?)" if name == "SIGKILL" else ""
            return f"its process was ended by {name}{hint}"
        return f"its process ended with exit code {trainer.status}"


def _template_environment() -> dict[str, str]:
    """The environment of the template: quiet frameworks and no thread pools."""
    environment = dict(os.environ)
    environment.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    # The template multiplies no matrices; a thread pool in it would not survive the fork.
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        environment.setdefault(name, "1")
    return environment
