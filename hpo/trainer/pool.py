"""A template and the trainers forked from it, one for each slot, as the agent sees them.

The pool owns every process that it starts: closing it, or the death of its own process, ends them all. It knows no
studies and no database, so searching and retraining share it.
"""

from __future__ import annotations

import logging
import os
import signal
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import count
from multiprocessing import Pipe
from multiprocessing import connection as mp_connection
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import hpo.errors
from hpo.errors import HpoError, ObjectiveBrokenError
from hpo.files.bounded_log import BoundedLog
from hpo.outcomes import Outcome
from hpo.process.identity import is_running
from hpo.process.process_groups import kill_group
from hpo.trainer.exits import Event, SpawnFailed, TrainerExited, describe_exit, oom_kills
from hpo.trainer.limits import check_limits
from hpo.trainer.messages import (
    Described,
    Exited,
    Finished,
    Fork,
    Forked,
    Load,
    LoadFailed,
    NotForked,
    Preload,
    Ready,
    Start,
    Started,
    ToTrainer,
    Unforkable,
)
from hpo.trainer.pipe import MOST_BYTES, UnreadableMessageError, decode
from hpo.trainer.template_process import STATUS_SECONDS, TemplateProcess
from objectives.base import Description, Device

log = logging.getLogger(__name__)

MAX_TEMPLATE_DEATHS = 3
"""Number of templates in a row that may die while they load or fork, before a trainer has started."""

MOST_UNANSWERED = 16
"""Number of requests to a template that may wait for its answer, so few that a pipe holds them.

So a request never blocks, whatever the template does: the two could wait for each other if both pipes were full.
"""

MOST_MESSAGES = 64
"""Number of a template's messages that are read in a row before those of trainers."""

POLL_SECONDS = 0.2
"""Seconds between two checks for exits that no message reports."""

LEAST_LOADING_SECONDS = 300.0
"""Shortest limit for loading: importing a framework and reading data may take minutes on a busy machine."""


@dataclass(kw_only=True)
class _Trainer:
    """A trainer as the pool sees it."""

    connection: Connection
    start: Start
    serial: int
    request_end: Connection | None
    """The trainer's end of the pipe until it is requested from the template."""
    pid: int | None = None
    status: int | None = None
    orphan: bool = False
    """Whether its template is dead, so that no message reports its exit."""
    closed_at: float | None = None
    """Monotonic time when its pipe was found closed; its exit status may still follow."""
    oom_kills_before: int = field(default_factory=lambda: oom_kills())
    """Number of processes that the kernel had killed for lack of memory when the trainer started."""

    @property
    def unanswered(self) -> bool:
        """Whether the template has yet to answer the request for it."""
        return self.request_end is None and self.pid is None and not self.orphan

    def close(self) -> None:
        self.connection.close()
        if self.request_end is not None:
            self.request_end.close()


class TrainerPool:
    """Trainers in slots; not thread-safe."""

    def __init__(
        self,
        load: Load,
        devices: Sequence[Device],
        log: Path,
        start_template: Callable[[Load, Path, int], TemplateProcess] = TemplateProcess,
    ) -> None:
        self.devices = list(devices)
        self.versions: dict[str, str] = {}
        self._load = load
        self._log = log
        self._bounded_log = BoundedLog(log)
        self._new_template = start_template
        self._template: TemplateProcess | None = None
        self.ready = False
        """Whether the template has loaded everything, so that trainers start at once."""
        self._loading_since = time.monotonic()
        self._template_deaths = 0
        self._serials = count()
        self._trainers: dict[int, _Trainer] = {}
        # Serials of trainers that were killed before their process ids were known.
        self._abandoned: set[int] = set()
        self._events: deque[tuple[int, Event]] = deque()
        self._description: Description | None = None
        self._keeps_log = False
        # Only this process holds the write end: see `end_with_agent`.
        self._guard_pipe: tuple[int, ...] = os.pipe()

    def __enter__(self) -> TrainerPool:
        """Start the template.

        Raises:
            UsageError: the host's limits do not allow so many trainers.
        """
        try:
            check_limits(len(self.devices))
            self._start_template()
        except BaseException:
            # `__exit__` is not called after a Ctrl-C in here.
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def busy(self) -> frozenset[int]:
        """Slots with a trainer."""
        return frozenset(self._trainers)

    def free_slots(self) -> list[int]:
        """Return the slots without a trainer, lowest first."""
        return [slot for slot in range(len(self.devices)) if slot not in self._trainers]

    def describe(self, check: Callable[[], None] = lambda: None) -> Description:
        """Wait for the template's description of the objective.

        `check` is called a few times a second and may raise to end the wait.

        Raises:
            HpoError: the objective could not be imported.
        """
        while self._description is None:
            check()
            self._poll(POLL_SECONDS)
        return self._description

    def check_loading(self, hung_seconds: float) -> None:
        """Check that the template has not been loading for more than `hung_seconds`, at least five minutes.

        Raises:
            ObjectiveBrokenError: it has been loading for longer.
        """
        limit = max(hung_seconds, LEAST_LOADING_SECONDS)
        if not self.ready and time.monotonic() - self._loading_since > limit:
            self._keeps_log = True
            raise ObjectiveBrokenError(
                f"{self._load.objective} and its data were not loaded within {limit:.0f} s: see {self._log},"
                " or allow more with --hung-after"
            )

    def start(self, slot: int, start: Start) -> None:
        """Fork a trainer for a free slot, as soon as the template keeps up, and send it its attempt."""
        try:
            ours, theirs = Pipe()
        except OSError as exc:
            self._events.append((slot, SpawnFailed(exc.strerror or str(exc))))
            return
        self._trainers[slot] = _Trainer(
            connection=ours, start=start, serial=next(self._serials), request_end=theirs
        )
        self._request_trainers()

    def is_forked(self, slot: int) -> bool:
        return slot in self._trainers and self._trainers[slot].pid is not None

    def replace_template(self) -> None:
        """Kill a template that no longer answers; another one is started, and trainers continue."""
        if self._template is not None:
            self._template.kill()

    def send(self, slot: int, message: ToTrainer) -> None:
        """Send a message to a trainer; one that has just ended does not receive it."""
        if slot in self._trainers:
            with suppress(OSError):
                self._trainers[slot].connection.send(message)

    def kill(self, slot: int) -> None:
        """Kill a trainer and the processes it has started; no event follows."""
        trainer = self._trainers.pop(slot, None)
        if trainer is None:
            return
        if trainer.unanswered:
            self._abandoned.add(trainer.serial)
        elif trainer.pid is not None and trainer.status is None:
            kill_group(trainer.pid)
        trainer.close()

    def truncate_log(self) -> None:
        """Bound the template's log; `wait` does so too."""
        self._bounded_log.truncate()

    def wait(self, timeout: float) -> list[tuple[int, Event]]:
        """Return the events since the last call, after waiting up to `timeout` seconds for the first.

        Raises:
            HpoError: the objective or its data cannot be loaded.
        """
        if not self._events:
            self._poll(timeout)
        events, self._events = list(self._events), deque()
        return events

    def close(self) -> None:
        for slot in list(self._trainers):
            self.kill(slot)
        if self._template is not None:
            self._template.close()
            self._template = None
        for descriptor in self._guard_pipe:
            os.close(descriptor)
        self._guard_pipe = ()
        self.truncate_log()
        if not self._keeps_log:
            # The log of a template that did not fail is of no use.
            self._log.unlink(missing_ok=True)

    def _start_template(self) -> None:
        self._template = self._new_template(self._load, self._log, self._guard_pipe[0])
        self.ready, self._loading_since = False, time.monotonic()

    def _request_trainers(self) -> None:
        """Request trainers from the template in the order of their starts, as many as may be unanswered."""
        unanswered = len(self._abandoned) + sum(trainer.unanswered for trainer in self._trainers.values())
        for slot, trainer in list(self._trainers.items()):
            if unanswered >= MOST_UNANSWERED:
                return
            if trainer.request_end is not None:
                self._request(Fork(trainer.serial, self.devices[slot]), trainer, trainer.request_end)
                unanswered += 1

    def _request(self, fork: Fork, trainer: _Trainer, theirs: Connection) -> None:
        """Request a trainer from the template, and start another template if it has died."""
        with theirs:
            for attempt in (1, 2):
                assert self._template is not None
                try:
                    self._template.request(fork, theirs)
                    break
                except OSError:
                    if attempt == 1:
                        self._template_died()
        trainer.request_end = None
        # A template that died with the request has closed the pipe: the trainer then counts as dead.
        with suppress(OSError):
            trainer.connection.send(trainer.start)

    def _poll(self, timeout: float) -> None:
        open_trainers = [trainer for trainer in self._trainers.values() if trainer.closed_at is None]
        waiting: list[Any] = [trainer.connection for trainer in open_trainers]
        if self._template is not None:
            waiting.append(self._template.connection)
        if any(trainer.orphan or trainer.closed_at is not None for trainer in self._trainers.values()):
            timeout = min(timeout, POLL_SECONDS)
        ready = set(mp_connection.wait(waiting, timeout))
        # The template first: it reports the exit of a trainer whose pipe has closed.
        if self._template is not None and self._template.connection in ready:
            self._receive_all_from_template()
            self._request_trainers()
        for slot, trainer in list(self._trainers.items()):
            if trainer.connection in ready and self._trainers.get(slot) is trainer:
                self._receive_from(slot, trainer)
        for slot, trainer in list(self._trainers.items()):
            self._check_exit(slot, trainer)
        self.truncate_log()

    def _receive_all_from_template(self) -> None:
        """Read the template's messages so far, because it may start many trainers at once."""
        for _ in range(MOST_MESSAGES):
            self._receive_from_template()
            if self._template is None or not self._template.connection.poll(0):
                return

    def _receive_from_template(self) -> None:
        assert self._template is not None
        try:
            message = self._template.receive()
        except (EOFError, OSError):
            self._template_died()
            return
        match message:
            case Described(description):
                if self._description is not None and description.code != self._description.code:
                    # Its earlier trainers and the study's other agents train with the code as it was.
                    raise ObjectiveBrokenError(
                        f"the code of {self._load.objective} was changed while it was being trained: run the same"
                        " command again to continue with the new code"
                    )
                self._description = description
            case Ready(versions):
                self.ready, self.versions = True, dict(versions)
            case LoadFailed(name, text, traceback):
                error = getattr(hpo.errors, name, ObjectiveBrokenError)
                failure: HpoError = error(text)
                if traceback:
                    failure.add_note(traceback)
                self._keeps_log = True
                raise failure
            case Unforkable():
                self._load_less(message)
            case Forked(serial, pid):
                self._template_deaths = 0
                if serial in self._abandoned:
                    self._abandoned.discard(serial)
                    kill_group(pid)
                for trainer in self._trainers.values():
                    if trainer.serial == serial:
                        trainer.pid = pid
            case NotForked(serial, reason):
                self._abandoned.discard(serial)
                for slot, trainer in list(self._trainers.items()):
                    if trainer.serial == serial:
                        self._remove(slot, SpawnFailed(reason))
            case Exited(pid, status):
                for slot, trainer in list(self._trainers.items()):
                    if trainer.pid == pid:
                        trainer.status = status
                        self._reap(slot, trainer)

    def _load_less(self, message: Unforkable) -> None:
        """Start a template that leaves the loading which starts threads to each trainer."""
        assert self._template is not None
        if self._load.preload is Preload.ALL:
            log.warning(
                f"loading {self._load.objective} has started {message.threads}, and threads do not survive a fork:"
                " each trial loads its data itself, which takes longer; to load them once, start no threads and"
                " compute with no framework in prepare() or the data function"
            )
        self._template.close()
        self._load = replace(self._load, preload=message.preload, modules=message.modules)
        self._start_template()

    def _template_died(self) -> None:
        """Start another template; running trainers continue without one."""
        assert self._template is not None
        status = self._template.close()
        self._template, was_ready, self.ready = None, self.ready, False
        # A template that has loaded everything and has nothing to do was killed from outside: that does not count.
        has_requests = any(trainer.unanswered for trainer in self._trainers.values())
        self._template_deaths += int(has_requests or not was_ready)
        for trainer in self._trainers.values():
            # The next template gets the requests that this one has not got.
            trainer.orphan = trainer.orphan or trainer.request_end is None
        self._abandoned.clear()
        self._keeps_log = True
        if self._template_deaths >= MAX_TEMPLATE_DEATHS or (not was_ready and self._description is None):
            if status == -signal.SIGTERM:
                # Sent to every process of a service: our own SIGTERM comes in a moment, and decides.
                time.sleep(STATUS_SECONDS)
            how = f"signal {-status}" if status < 0 else f"exit code {status}"
            raise ObjectiveBrokenError(
                f"the process that loads {self._load.objective} ended ({how}) before it could train:"
                f" see {self._log}"
            )
        self._start_template()

    def _receive_from(self, slot: int, trainer: _Trainer) -> None:
        try:
            content = trainer.connection.recv_bytes(MOST_BYTES)
        except (EOFError, OSError):
            trainer.closed_at = time.monotonic()
            return
        try:
            message = decode(content)
        except UnreadableMessageError as exc:
            if trainer.pid is not None:
                kill_group(trainer.pid)
            message = Finished(
                Outcome.BUG,
                f"its process sent a message that cannot be read ({exc}): remove the code that writes to its pipe",
            )
        if isinstance(message, Started):
            trainer.pid = message.pid
        self._events.append((slot, message))
        if isinstance(message, Finished):
            self._trainers.pop(slot).connection.close()

    def _check_exit(self, slot: int, trainer: _Trainer) -> None:
        """Detect the end of a trainer that its template does not report."""
        if trainer.closed_at is not None:
            if trainer.orphan or time.monotonic() - trainer.closed_at > STATUS_SECONDS:
                self._reap(slot, trainer)
        elif trainer.orphan and trainer.pid is not None and not is_running(trainer.pid):
            # A process that it has forked may hold its pipe open.
            self._reap(slot, trainer)

    def _reap(self, slot: int, trainer: _Trainer) -> None:
        """Read the last messages of a trainer that has ended, and kill the processes it has left."""
        if trainer.pid is not None and trainer.status != 0:
            kill_group(trainer.pid)
        with suppress(EOFError, OSError):
            while slot in self._trainers and trainer.closed_at is None and trainer.connection.poll(0):
                self._receive_from(slot, trainer)
        if self._trainers.get(slot) is not trainer:
            return
        if trainer.pid is None:
            self._remove(slot, SpawnFailed("its template ended"))
        else:
            kills = oom_kills()
            out_of_memory = trainer.status == -signal.SIGKILL and kills > trainer.oom_kills_before
            if out_of_memory:
                # The kill was of this trainer: do not attribute it to another one.
                for other in self._trainers.values():
                    other.oom_kills_before = kills
            self._remove(
                slot,
                TrainerExited(describe_exit(trainer.status, out_of_memory), trainer.status, out_of_memory),
            )

    def _remove(self, slot: int, event: Event) -> None:
        self._events.append((slot, event))
        self._trainers.pop(slot).close()
