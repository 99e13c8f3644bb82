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
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from multiprocessing import Pipe, reduction
from multiprocessing import connection as mp_connection
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, BinaryIO

import hpo.errors
from hpo.errors import FileNotWritableError, HpoError, ObjectiveBrokenError
from hpo.files.bounded_log import BoundedLog
from hpo.process import oom_killer
from hpo.process.identity import is_running
from hpo.process.process_groups import kill_group
from hpo.trainer.exits import Event, SpawnFailed, TrainerExited, how_it_ended
from hpo.trainer.messages import (
    Described,
    Exited,
    Finished,
    Fork,
    Forked,
    Load,
    LoadFailed,
    NotForked,
    Ready,
    Start,
    Started,
    ToTrainer,
)
from objectives.base import Description, Device

MAX_TEMPLATE_DEATHS = 3
"""Templates in a row that may die while they load, or while they fork, before any trainer has started."""

STATUS_SECONDS = 1.0
"""How long to wait for the exit status of a process whose pipe has closed."""

WATCH_SECONDS = 0.2
"""Between two looks at what nobody tells of."""

LEAST_LOADING_SECONDS = 300.0
"""Importing a framework and reading data may take minutes on a busy machine, however short epochs are."""

_WITHHELD = ("HPO_STORAGE", "HPO_DASHBOARD_", "PG")
"""Variables that begin so lead to the database, the last ones being libpq's own: a trainer knows none, and prints
whatever its objective does."""


@dataclass
class _Trainer:
    """A running trainer, seen from outside."""

    connection: Connection
    start: Start
    serial: int
    pid: int | None = None
    status: int | None = None
    orphan: bool = False
    """Its template is dead, so nobody tells when it ends."""
    closed_at: float | None = None
    """When its pipe was found closed; its exit status may still follow."""
    starved_before: int = field(default_factory=oom_killer.kills)
    """How many processes the kernel had killed for want of memory."""


class TrainerPool:
    """Trainers in slots; not thread-safe."""

    def __init__(self, load: Load, devices: Sequence[Device], log: Path) -> None:
        self.devices = list(devices)
        self.versions: dict[str, str] = {}
        self._load = load
        self._log = log
        self._printed = BoundedLog(log)
        self._template: Connection | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._ready = False
        self._loading_since = time.monotonic()
        self._deaths = 0
        self._serials = count()
        self._trainers: dict[int, _Trainer] = {}
        # Given up before their process ids were known.
        self._unborn: set[int] = set()
        self._events: deque[tuple[int, Event]] = deque()
        self._description: Description | None = None
        self._failed = False
        # Only this process holds the end that is never written to: see `hpo.process.orphan_guard`.
        self._life: tuple[int, ...] = os.pipe()

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

    def describe(self, check: Callable[[], None] = lambda: None) -> Description:
        """What the objective searches, as soon as the template knows.

        `check` is called a few times a second, and may raise to end the wait.

        Raises:
            HpoError: the objective could not be imported.
        """
        while self._description is None:
            check()
            self._poll(WATCH_SECONDS)
        return self._description

    def check_loading(self, hung_seconds: float) -> None:
        """Give up a template that has been loading for more than so many seconds, and for five minutes.

        Raises:
            ObjectiveBrokenError: it has.
        """
        limit = max(hung_seconds, LEAST_LOADING_SECONDS)
        if not self._ready and time.monotonic() - self._loading_since > limit:
            self._failed = True
            raise ObjectiveBrokenError(
                f"{self._load.objective} and its data were not loaded within {limit:.0f} s: see {self._log},"
                " or allow more with --hung-after"
            )

    def start(self, slot: int, start: Start) -> None:
        """Fork a trainer into a free slot and hand it its attempt."""
        ours, theirs = Pipe()
        serial = next(self._serials)
        try:
            self._request(Fork(serial, self.devices[slot]), theirs)
        finally:
            theirs.close()
        # A template that died with the request has closed the pipe: the trainer is then seen to have died.
        with suppress(OSError):
            ours.send(start)
        self._trainers[slot] = _Trainer(ours, start, serial)

    def is_forked(self, slot: int) -> bool:
        """Whether the template has made the trainer of this slot."""
        return slot in self._trainers and self._trainers[slot].pid is not None

    def replace_template(self) -> None:
        """Have a template that does not answer any more end; another is started, and trainers go on."""
        if self._process is not None:
            self._process.kill()

    def send(self, slot: int, message: ToTrainer) -> None:
        """Tell a trainer something; one that has just ended does not hear it."""
        if slot in self._trainers:
            with suppress(OSError):
                self._trainers[slot].connection.send(message)

    def kill(self, slot: int) -> None:
        """End a trainer at once, and what it has started; no event follows."""
        trainer = self._trainers.pop(slot, None)
        if trainer is None:
            return
        if trainer.pid is None:
            self._unborn.add(trainer.serial)
        elif trainer.status is None:
            kill_group(trainer.pid)
        trainer.connection.close()

    def bound_log(self) -> None:
        """Cut what the template has printed to size; done at every look at what trainers say."""
        self._printed.truncate()

    def wait(self, timeout: float) -> list[tuple[int, Event]]:
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
            _end(self._process)
            self._process = None
        for descriptor in self._life:
            os.close(descriptor)
        self._life = ()
        self.bound_log()
        if not self._failed:
            # Nothing in it that anybody will ask for.
            self._log.unlink(missing_ok=True)

    def _start_template(self) -> None:
        ours, theirs = Pipe()
        with self._opened_log() as log:
            self._process = subprocess.Popen(
                # -P: a folder named `hpo` where the user happens to stand must not be taken for ours.
                [
                    sys.executable,
                    "-P",
                    "-m",
                    "hpo.trainer.template",
                    str(theirs.fileno()),
                    str(self._life[0]),
                ],
                pass_fds=[theirs.fileno(), self._life[0]],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=template_environment(),
                # Its own session: a Ctrl-C at the terminal is for the agent to handle.
                start_new_session=True,
            )
        theirs.close()
        self._template, self._ready, self._loading_since = ours, False, time.monotonic()
        ours.send(self._load)

    def _opened_log(self) -> BinaryIO:
        try:
            self._log.parent.mkdir(parents=True, exist_ok=True)
            return self._log.open("ab")
        except OSError as exc:
            raise FileNotWritableError(
                f"the log {self._log} cannot be written ({exc.strerror or exc}): mend that, or set HPO_HOME to"
                " another folder"
            ) from exc

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

    def _poll(self, timeout: float) -> None:
        open_ones = [trainer for trainer in self._trainers.values() if trainer.closed_at is None]
        waiting: list[Any] = [trainer.connection for trainer in open_ones]
        if self._template is not None:
            waiting.append(self._template)
        if any(trainer.orphan or trainer.closed_at is not None for trainer in self._trainers.values()):
            timeout = min(timeout, WATCH_SECONDS)
        if not waiting:
            time.sleep(timeout)
        ready = set(mp_connection.wait(waiting, timeout)) if waiting else set()
        # The template first: it says how a trainer ended whose pipe has closed.
        if self._template is not None and self._template in ready:
            self._hear_template()
        for slot, trainer in list(self._trainers.items()):
            if trainer.connection in ready and self._trainers.get(slot) is trainer:
                self._hear_trainer(slot, trainer)
        for slot, trainer in list(self._trainers.items()):
            self._look_after(slot, trainer)
        self.bound_log()

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
            case LoadFailed(name, text, traceback):
                error = getattr(hpo.errors, name, ObjectiveBrokenError)
                failure: HpoError = error(text)
                if traceback:
                    failure.add_note(traceback)
                self._failed = True
                raise failure
            case Forked(serial, pid):
                self._deaths = 0
                if serial in self._unborn:
                    self._unborn.discard(serial)
                    kill_group(pid)
                for trainer in self._trainers.values():
                    if trainer.serial == serial:
                        trainer.pid = pid
            case NotForked(serial, reason):
                self._unborn.discard(serial)
                for slot, trainer in list(self._trainers.items()):
                    if trainer.serial == serial:
                        self._give_up(slot, SpawnFailed(reason))
            case Exited(pid, status):
                for slot, trainer in list(self._trainers.items()):
                    if trainer.pid == pid:
                        trainer.status = status
                        self._reap(slot, trainer)

    def _template_died(self) -> None:
        """Start another template; running trainers go on without."""
        if self._template is not None:
            self._template.close()
            self._template = None
        status = _end(self._process) if self._process is not None else None
        self._process, was_ready, self._ready = None, self._ready, False
        # One that loads all it needs and has nothing to do was ended from outside: it would have gone on.
        asked = any(trainer.pid is None for trainer in self._trainers.values())
        self._deaths += int(asked or not was_ready)
        for trainer in self._trainers.values():
            trainer.orphan = True
        self._unborn.clear()
        self._failed = True
        if self._deaths >= MAX_TEMPLATE_DEATHS or (not was_ready and self._description is None):
            if status == -signal.SIGTERM:
                # Sent to every process of a service: our own comes in a moment, and says more.
                time.sleep(STATUS_SECONDS)
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
            trainer.closed_at = time.monotonic()
            return
        if isinstance(message, Started):
            trainer.pid = message.pid
        self._events.append((slot, message))
        if isinstance(message, Finished):
            self._trainers.pop(slot).connection.close()

    def _look_after(self, slot: int, trainer: _Trainer) -> None:
        """Notice a trainer of whose end its template does not tell."""
        if trainer.closed_at is not None:
            if trainer.orphan or time.monotonic() - trainer.closed_at > STATUS_SECONDS:
                self._reap(slot, trainer)
        elif trainer.orphan and trainer.pid is not None and not is_running(trainer.pid):
            # What it has forked may hold its pipe open.
            self._reap(slot, trainer)

    def _reap(self, slot: int, trainer: _Trainer) -> None:
        """A trainer has ended: hear what it said last, and end what it has left behind."""
        if trainer.pid is not None and trainer.status != 0:
            kill_group(trainer.pid)
        with suppress(EOFError, OSError):
            while slot in self._trainers and trainer.closed_at is None and trainer.connection.poll(0):
                self._hear_trainer(slot, trainer)
        if self._trainers.get(slot) is not trainer:
            return
        if trainer.pid is None:
            self._give_up(slot, SpawnFailed("its template ended"))
        else:
            kills = oom_killer.kills()
            starved = trainer.status == -signal.SIGKILL and kills > trainer.starved_before
            if starved:
                # It was this one: the next that is killed need not be another.
                for other in self._trainers.values():
                    other.starved_before = kills
            self._give_up(slot, TrainerExited(how_it_ended(trainer.status, starved), trainer.status, starved))

    def _give_up(self, slot: int, event: Event) -> None:
        self._events.append((slot, event))
        self._trainers.pop(slot).connection.close()


def _end(process: subprocess.Popen[bytes]) -> int:
    """Wait for a process whose pipe is closed, but not for long; returns its exit status."""
    try:
        with suppress(subprocess.TimeoutExpired):
            return process.wait(STATUS_SECONDS)
        process.kill()
        return process.wait()
    finally:
        # It led a session: what the objective started while it was imported.
        kill_group(process.pid)


def template_environment() -> dict[str, str]:
    """The environment of the template: no database, quiet frameworks, no thread pools, large pages of memory."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(_WITHHELD)}
    environment.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    # The template multiplies no matrices; a thread pool in it would not survive the fork.
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        environment.setdefault(name, "1")
    # Tensors of many MiB: with pages of 2 MiB the processor looks up far fewer. glibc reads this only at its start.
    tunables = environment.get("GLIBC_TUNABLES", "")
    if "glibc.malloc.hugetlb" not in tunables:
        environment["GLIBC_TUNABLES"] = ":".join(filter(None, [tunables, "glibc.malloc.hugetlb=1"]))
    return environment
