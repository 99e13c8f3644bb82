"""A template and the trainers forked from it, one for each slot, as the agent sees them.

The pool owns every process that it starts: closing it, or the death of its own process, ends them all. It knows no
studies and no database, so searching and retraining share it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import count
from multiprocessing import Pipe
from multiprocessing import connection as mp_connection
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from hpo.process.process_groups import kill_group
from hpo.trainer.ends.exits import Event, SpawnFailed
from hpo.trainer.limits import check_limits
from hpo.trainer.messages import Finished, Start, ToTrainer
from hpo.trainer.pooled_trainer import PooledTrainer
from hpo.trainer.template.current import MOST_UNANSWERED, CurrentTemplate, OfTrainer, StartTemplate
from hpo.trainer.template.messages import Exited, Fork, Forked, Load, NotForked
from hpo.trainer.template.process import start_template
from hpo.trainer.waiting import WaitingTrainers, may_stay
from objectives.description import Description
from objectives.device import Device

POLL_SECONDS = 0.2
"""Seconds between two checks for exits that no message reports."""


class TrainerPool:
    """Trainers in slots; not thread-safe."""

    def __init__(
        self,
        load: Load,
        devices: Sequence[Device],
        log: Path,
        start_template: StartTemplate = start_template,
    ) -> None:
        self.devices = list(devices)
        self.fresh_processes = False
        """Whether no trainer may train two attempts."""
        self._waiting = WaitingTrainers()
        self._template = CurrentTemplate(load, log, start_template)
        self._serials = count()
        self._trainers: dict[int, PooledTrainer] = {}
        # Serials of trainers that were killed before their process ids were known.
        self._abandoned: set[int] = set()
        self._events: deque[tuple[int, Event]] = deque()

    def __enter__(self) -> TrainerPool:
        """Start the template.

        Raises:
            UsageError: the host's limits do not allow so many trainers.
        """
        try:
            check_limits(len(self.devices))
            self._template.start()
        except BaseException:
            # `__exit__` is not called after a Ctrl-C in here.
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def ready(self) -> bool:
        """Whether the template has loaded everything, so that trainers start at once."""
        return self._template.ready

    @property
    def stage(self) -> str:
        """Part of loading that is in progress; empty if it is not known."""
        return self._template.stage

    @property
    def versions(self) -> Mapping[str, str]:
        """Versions of the libraries that the template has loaded."""
        return self._template.versions

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
        while self._template.description is None:
            check()
            self._poll(POLL_SECONDS)
        return self._template.description

    def check_loading(self, hung_seconds: float) -> None:
        """Raise ObjectiveBrokenError if the template has been loading for longer, and for five minutes."""
        self._template.check_loading(hung_seconds)

    def start(self, slot: int, start: Start) -> None:
        """Send a free slot's attempt to the trainer that waits there, or to one that the template forks in its turn."""
        start = replace(start, may_stay=not self.fresh_processes and may_stay(start, self.devices[slot]))
        waiting = self._waiting.take(slot, start)
        if waiting is not None:
            self._trainers[slot] = waiting
        else:
            self._fork(slot, start)

    def _fork(self, slot: int, start: Start) -> None:
        try:
            ours, theirs = Pipe()
        except OSError as exc:
            self._events.append((slot, SpawnFailed(exc.strerror or str(exc))))
            return
        self._trainers[slot] = PooledTrainer(
            connection=ours, start=start, serial=next(self._serials), request_end=theirs
        )
        self._request_trainers()

    def is_forked(self, slot: int) -> bool:
        return slot in self._trainers and self._trainers[slot].pid is not None

    def replace_template(self) -> None:
        """Kill a template that no longer answers; another one is started, and trainers continue."""
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
        elif trainer.status is None:
            trainer.kill()
        trainer.close()

    def truncate_log(self) -> None:
        """Bound the template's log; `wait` does so too."""
        self._template.truncate_log()

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
        self._waiting.close()
        self._template.close()

    def _request_trainers(self) -> None:
        """Request trainers from the template in the order of their starts, as many as may be unanswered."""
        if self._template.importing:
            return
        unanswered = len(self._abandoned) + sum(trainer.unanswered for trainer in self._trainers.values())
        for slot, trainer in list(self._trainers.items()):
            if unanswered >= MOST_UNANSWERED:
                return
            if trainer.request_end is not None:
                self._request(Fork(trainer.serial, self.devices[slot]), trainer, trainer.request_end)
                unanswered += 1

    def _request(self, fork: Fork, trainer: PooledTrainer, theirs: Connection) -> None:
        """Request a trainer from the template, and start another template if it has died."""
        with theirs:
            for attempt in (1, 2):
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
        waiting: list[Any] = [one.connection for one in self._trainers.values() if one.closed_at is None]
        waiting += self._waiting.connections
        if self._template.connection is not None:
            waiting.append(self._template.connection)
        if any(trainer.orphan or trainer.closed_at is not None for trainer in self._trainers.values()):
            timeout = min(timeout, POLL_SECONDS)
        ready = set(mp_connection.wait(waiting, timeout))
        self._waiting.drop_ready(ready)
        # The template first: it reports the exit of a trainer whose pipe has closed.
        if self._template.connection in ready:
            self._receive_from_template()
            self._request_trainers()
        for slot, trainer in list(self._trainers.items()):
            if trainer.connection in ready and self._trainers.get(slot) is trainer:
                self._receive_from(slot, trainer)
        for slot, trainer in list(self._trainers.items()):
            # A template that imports modules reports exits late.
            if trainer.has_exited and (trainer.orphan or not self._template.importing):
                self._reap(slot, trainer)
        self.truncate_log()

    def _receive_from_template(self) -> None:
        try:
            for message in self._template.receive():
                self._on_template(message)
        except (EOFError, OSError):
            self._template_died()

    def _on_template(self, message: OfTrainer) -> None:
        match message:
            case Forked(serial, pid):
                if serial in self._abandoned:
                    self._abandoned.discard(serial)
                    kill_group(pid)
                for trainer in self._trainers.values():
                    trainer.pid = pid if trainer.serial == serial else trainer.pid
            case NotForked(serial, reason):
                self._abandoned.discard(serial)
                for slot in [slot for slot, one in self._trainers.items() if one.serial == serial]:
                    self._remove(slot, SpawnFailed(reason))
            case Exited(pid, status):
                self._waiting.drop_process(pid)
                for slot, trainer in [pair for pair in self._trainers.items() if pair[1].pid == pid]:
                    trainer.status = status
                    self._reap(slot, trainer)

    def _template_died(self) -> None:
        """Start another template; running trainers continue without one."""
        # Nothing would report their exits.
        self._waiting.close()
        has_requests = any(trainer.unanswered for trainer in self._trainers.values())
        for trainer in self._trainers.values():
            # The next template gets the requests that this one has not got.
            trainer.orphan = trainer.orphan or trainer.request_end is None
        self._abandoned.clear()
        self._template.replace_dead(has_requests=has_requests)

    def _receive_from(self, slot: int, trainer: PooledTrainer) -> None:
        for message in trainer.receive():
            if self._template.note(message):
                continue
            self._events.append((slot, message))
            if isinstance(message, Finished):
                del self._trainers[slot]
                if message.stays and trainer.start.may_stay and not trainer.orphan:
                    self._waiting.keep(slot, trainer)
                else:
                    trainer.connection.close()
                return

    def _reap(self, slot: int, trainer: PooledTrainer) -> None:
        """Read the last messages of a trainer that has ended, and kill the processes it has left."""
        if trainer.status != 0:
            trainer.kill()
        with suppress(EOFError, OSError):
            while slot in self._trainers and trainer.closed_at is None and trainer.connection.poll(0):
                self._receive_from(slot, trainer)
        if self._trainers.get(slot) is not trainer:
            return
        if trainer.passes_on:
            self._trainers.pop(slot).close()
            self._fork(slot, trainer.start)
        elif trainer.pid is None:
            self._remove(slot, SpawnFailed("its template ended"))
        else:
            self._remove(slot, trainer.exited(self._trainers.values()))

    def _remove(self, slot: int, event: Event) -> None:
        self._events.append((slot, event))
        self._trainers.pop(slot).close()
