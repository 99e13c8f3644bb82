"""A template and the trainers forked from it, one for each slot or for all lanes of a device, as the agent sees them.

The pool owns every process that it starts: closing it, or the death of its own process, ends them all. It knows no
studies and no database, so searching and retraining share it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from multiprocessing import Pipe
from multiprocessing import connection as mp_connection
from pathlib import Path
from typing import Any

from hpo.devices.slots import of_one_lane
from hpo.trainer.ends.exits import Event, SpawnFailed
from hpo.trainer.lanes.hosts import LaneHosts
from hpo.trainer.lanes.pooled_host import PooledHost
from hpo.trainer.limits import check_limits
from hpo.trainer.messages import Finished, Start, ToTrainer
from hpo.trainer.pooled_process import PooledProcess
from hpo.trainer.pooled_trainer import PooledTrainer
from hpo.trainer.template.current import CurrentTemplate, OfTrainer, StartTemplate
from hpo.trainer.template.messages import Exited, Fork, Forked, Load, NotForked
from hpo.trainer.template.process import start_template
from hpo.trainer.template.requests import Requests
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
        self._trainers: dict[int, PooledTrainer] = {}
        self._events: deque[tuple[int, Event]] = deque()
        # Nothing would report the exits of waiting trainers.
        self._requests = Requests(self._template, self._processes, self._waiting.close)
        self.lanes = LaneHosts(
            self._requests, lambda slot, event: self._events.append((slot, event)), self._fork
        )

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
        """Slots with an attempt."""
        return self.lanes.busy | frozenset(self._trainers)

    def free_slots(self) -> list[int]:
        """Return the slots in which an attempt can be started, lowest first."""
        busy = self.busy
        return [
            slot
            for slot, device in enumerate(self.devices)
            if slot not in busy and not self.lanes.is_blocked(slot, device)
        ]

    def _processes(self) -> list[PooledProcess]:
        return [*self._trainers.values(), *self.lanes.processes]

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
        """Send a free slot's attempt to its lane, to the trainer that waits there, or to one that is then forked."""
        device = self.devices[slot]
        if device.lane is not None and not (start.alone or start.checks or start.most_lanes):
            try:
                self.lanes.start(slot, device, start)
            except OSError as exc:
                self._events.append((slot, SpawnFailed(exc.strerror or str(exc))))
            return
        start = replace(start, may_stay=not self.fresh_processes and may_stay(start, device))
        waiting = self._waiting.take(slot, replace(start, device=of_one_lane(start.device)))
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
        start = replace(start, device=of_one_lane(start.device))
        fork = Fork(self._requests.serial(), of_one_lane(self.devices[slot]))
        self._trainers[slot] = PooledTrainer(connection=ours, start=start, fork=fork, request_end=theirs)
        self._requests.proceed()

    def is_forked(self, slot: int) -> bool:
        if slot in self._trainers:
            return self._trainers[slot].pid is not None
        return self.lanes.is_forked(slot)

    def sharing(self, slot: int) -> frozenset[int]:
        """Return the slots whose attempts are trained by the process of a slot's attempt, this one included."""
        return self.lanes.sharing(slot) | {slot}

    def replace_template(self) -> None:
        """Kill a template that no longer answers; another one is started, and trainers continue."""
        self._template.kill()

    def send(self, slot: int, message: ToTrainer) -> None:
        """Send a message to a trainer; one that has just ended does not receive it."""
        if slot in self._trainers:
            with suppress(OSError):
                self._trainers[slot].connection.send(message)
        else:
            self.lanes.send(slot, message)

    def kill(self, slot: int) -> None:
        """Kill a trainer and the processes it has started, or end the attempt of a lane; no event follows."""
        trainer = self._trainers.pop(slot, None)
        if trainer is not None:
            self._requests.abandon(trainer)
        else:
            self.lanes.kill(slot)

    def kill_all(self) -> None:
        """Kill all trainers and the processes they have started, at once; no event follows."""
        for slot in list(self._trainers):
            self.kill(slot)
        self.lanes.close()

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
        self.kill_all()
        self._waiting.close()
        self._template.close()

    def _poll(self, timeout: float) -> None:
        waiting: list[Any] = [one.connection for one in self._trainers.values() if one.closed_at is None]
        waiting += [*self._waiting.connections, *self.lanes.connections]
        if self._template.connection is not None:
            waiting.append(self._template.connection)
        closed = any(trainer.orphan or trainer.closed_at is not None for trainer in self._trainers.values())
        if closed or self.lanes.waits:
            timeout = min(timeout, POLL_SECONDS)
        ready = set(mp_connection.wait(waiting, timeout))
        self._waiting.drop_ready(ready)
        # The template first: it reports the exit of a trainer whose pipe has closed.
        if self._template.connection in ready:
            self._receive_from_template()
            self._requests.proceed()
        for slot, trainer in list(self._trainers.items()):
            if trainer.connection in ready and self._trainers.get(slot) is trainer:
                self._receive_from(slot, trainer)
        self.lanes.receive(ready)
        for process in self._processes():
            # A template that imports modules reports exits late.
            if process.has_exited and (process.orphan or not self._template.importing):
                self._reap(process)
        self.truncate_log()

    def _receive_from_template(self) -> None:
        try:
            for message in self._template.receive():
                self._on_template(message)
        except (EOFError, OSError):
            self._requests.lose_template()

    def _on_template(self, message: OfTrainer) -> None:
        match message:
            case Forked():
                self._requests.note_forked(message)
            case NotForked(serial, reason):
                self._requests.note_refused(serial)
                for process in self._requests.of_serial(serial):
                    self._refuse(process, reason)
            case Exited(pid, status):
                self._waiting.drop_process(pid)
                for process in [one for one in self._processes() if one.pid == pid]:
                    process.status = status
                    self._reap(process)

    def _refuse(self, process: PooledProcess, reason: str) -> None:
        if isinstance(process, PooledHost):
            self.lanes.refuse(process, reason)
        for slot in [slot for slot, one in self._trainers.items() if one is process]:
            self._remove(slot, SpawnFailed(reason))

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

    def _reap(self, process: PooledProcess) -> None:
        """Note the end of a process."""
        if isinstance(process, PooledHost):
            self.lanes.reap(process)
        for slot, trainer in [pair for pair in self._trainers.items() if pair[1] is process]:
            self._reap_trainer(slot, trainer)

    def _reap_trainer(self, slot: int, trainer: PooledTrainer) -> None:
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
            self._remove(slot, trainer.exited(self._processes()))

    def _remove(self, slot: int, event: Event) -> None:
        self._events.append((slot, event))
        self._trainers.pop(slot).close()
