"""The lane hosts of a pool: one for all lanes of a device, started with its first attempt.

The slots of a device follow each other, one for each lane.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import replace
from itertools import count
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path

from hpo.trainer.ends.exits import Blame, Event, SpawnFailed, TrainerExited
from hpo.trainer.lanes.messages import Freed, FromHost, Placed, Refused, Shape
from hpo.trainer.lanes.pooled_host import LaneAttempt, PooledHost
from hpo.trainer.lanes.process_output import ProcessOutput
from hpo.trainer.lanes.shapes import Shapes
from hpo.trainer.messages import Finished, Start, ToTrainer
from hpo.trainer.template.messages import Fork
from hpo.trainer.template.requests import Requests
from objectives.base import Params
from objectives.device import Device

log = logging.getLogger(__name__)


class LaneHosts:
    """Attempts in lanes, by slots."""

    def __init__(
        self,
        requests: Requests,
        emit: Callable[[int, Event], None],
        fork: Callable[[int, Start], None],
    ) -> None:
        """`emit` gets the events of attempts; `fork` starts one in a process of its own."""
        self._requests = requests
        self._emit = emit
        self._fork = fork
        self._numbers = count()
        self._hosts: dict[int, PooledHost] = {}
        self._reasons: set[str] = set()
        """Reasons, already logged, for which attempts train in processes of their own."""
        self.shapes = Shapes()
        self.hung_seconds = 0.0
        """Time of silence after which an attempt counts as hung."""

    def ask(self, params: Params, epochs: int | None) -> None:
        """Ask a host for the shape of a configuration, if there is one."""
        host = next((one for one in self.processes if one.pid is not None and not one.killed), None)
        question = None if host is None else self.shapes.question(params, epochs)
        if host is not None and question is not None:
            with suppress(OSError):
                host.connection.send(question)

    def joins(self, slot: int, device: Device, params: Params) -> bool:
        """Return whether a configuration would train in a program that trains others in the process of a slot."""
        host = self._hosts.get(slot // device.lanes)
        return host is not None and self.shapes.is_among(
            params, (attempt.start.params for attempt in host.attempts.values())
        )

    @property
    def processes(self) -> list[PooledHost]:
        return list(self._hosts.values())

    @property
    def connections(self) -> list[Connection]:
        """Pipes on which messages may arrive."""
        found = [host.connection for host in self.processes if host.closed_at is None]
        for host in self.processes:
            found += [one.connection for one in host.attempts.values() if not one.closed]
        return found

    @property
    def busy(self) -> frozenset[int]:
        """Slots with an attempt."""
        return frozenset(slot for host in self.processes for slot in host.attempts)

    @property
    def retiring(self) -> frozenset[int]:
        """Slots with an attempt whose process gets no further one."""
        return frozenset(slot for host in self.processes if host.retires for slot in host.attempts)

    @property
    def waits(self) -> bool:
        """Whether something is due that no message reports."""
        return any(host.leaving or host.orphan or host.closed_at is not None for host in self.processes)

    def is_blocked(self, slot: int, device: Device) -> bool:
        """Whether no attempt can be started in a slot that has none: another one has yet to leave its lane."""
        host = self._hosts.get(slot // device.lanes)
        if host is None or device.lane is None:
            return False
        left = host.leaving.get(slot)
        return host.retires or host.killed or (left is not None and left.killed)

    def start(self, slot: int, device: Device, start: Start) -> None:
        """Train an attempt in the lane of a slot.

        Raises:
            OSError: no pipe could be opened.
        """
        assert device.lane is not None
        ours, theirs = Pipe()
        group = slot // device.lanes
        if group not in self._hosts:
            try:
                self._hosts[group] = self._new_host(device, Path(start.log).parent)
            except OSError:
                for end in (ours, theirs):
                    end.close()
                raise
        attempt = LaneAttempt(number=next(self._numbers), connection=ours, start=start)
        self._hosts[group].train(slot, attempt, device.lane, theirs)
        self._requests.proceed()

    def _new_host(self, device: Device, logs: Path) -> PooledHost:
        output = ProcessOutput(logs)
        try:
            ours, theirs = Pipe()
        except OSError:
            output.close()
            raise
        fork = Fork(self._requests.serial(), replace(device, lane=None), lanes=True)
        return PooledHost(connection=ours, fork=fork, request_end=theirs, output=output)

    def sharing(self, slot: int) -> frozenset[int]:
        """Return the slots whose attempts are trained by the process of a slot's attempt."""
        host = self._host_of(slot)
        return frozenset(host.attempts if host is not None else ())

    def is_forked(self, slot: int) -> bool:
        host = self._host_of(slot)
        return host is not None and host.pid is not None

    def send(self, slot: int, message: ToTrainer) -> None:
        """Send a message to the attempt of a slot, if there is one."""
        if (host := self._host_of(slot)) is not None:
            with suppress(OSError):
                host.attempts[slot].connection.send(message)

    def kill(self, slot: int) -> None:
        """End the attempt of a slot, if there is one; no event follows."""
        if (host := self._host_of(slot)) is not None:
            host.end(slot, hung_seconds=self.hung_seconds)

    def close(self) -> None:
        """Kill all hosts at once."""
        for group in list(self._hosts):
            self._requests.abandon(self._hosts.pop(group))

    def _host_of(self, slot: int) -> PooledHost | None:
        return next((host for host in self.processes if slot in host.attempts), None)

    # What happens to them.

    def receive(self, ready: Collection[object]) -> None:
        """Read the messages of hosts and attempts whose pipes are ready."""
        for host in self.processes:
            host.copy_output()
            # Attempts first: the end of one arrives before the message that its lane is free.
            for slot, attempt in list(host.attempts.items()):
                if attempt.connection in ready:
                    self._receive_attempt(host, slot, attempt)
            if host.connection in ready:
                for message in host.receive():
                    self._on_message(host, message)
        self._end_overdue()

    def _receive_attempt(self, host: PooledHost, slot: int, attempt: LaneAttempt) -> None:
        for message in attempt.receive():
            if isinstance(message, Finished):
                # Its log is closed with its attempt.
                host.copy_output()
            self._emit(slot, message)
            if isinstance(message, Finished):
                host.end(slot)
                return

    def _on_message(self, host: PooledHost, message: FromHost) -> None:
        if isinstance(message, Shape):
            self.shapes.note(message)
            return
        slot = host.slot_of(message.number)
        if slot is None:
            return
        if isinstance(message, Placed):
            if slot in host.attempts:
                self.shapes.note_placed(host.attempts[slot].start.params, message.shape)
            return
        left = host.leaving.get(slot)
        if left is not None and left.number == message.number:
            del host.leaving[slot]
        else:
            self._leave(host, slot, message)
        if isinstance(message, Freed) and message.retires and not host.retires:
            log.debug(
                f"process {host.pid} ends after its attempts: its memory has grown, its device has failed, or it has"
                " trained many"
            )
            host.retires = True

    def _leave(self, host: PooledHost, slot: int, message: Freed | Refused) -> None:
        """Handle the end of an attempt which has not reported an outcome."""
        attempt = host.attempts[slot]
        while slot in host.attempts and not attempt.closed and attempt.connection.poll(0):
            self._receive_attempt(host, slot, attempt)
        if slot not in host.attempts:
            host.leaving.pop(slot, None)
            return
        del host.attempts[slot]
        attempt.close()
        if isinstance(message, Refused):
            if message.reason not in self._reasons:
                self._reasons.add(message.reason)
                log.info(f"not in a lane, but in a process of its own: {message.reason}")
            self._fork(slot, replace(attempt.start, alone=True))
        else:
            self._emit(slot, TrainerExited("it left its lane without an outcome: see its log"))

    def _end_overdue(self) -> None:
        now = time.monotonic()
        for group, host in list(self._hosts.items()):
            late = [one for one in host.leaving.values() if now > one.ends_by]
            if late and not host.killed and host.pid is not None:
                host.killed = True
                log.warning(
                    "a trial that was ended has not left its lane in time: the process of its lanes is killed, and its"
                    " other trials resume from their checkpoints"
                )
                host.kill()
            if host.retires and not host.attempts and not host.leaving:
                self._requests.abandon(self._hosts.pop(group))

    def refuse(self, host: PooledHost, reason: str) -> None:
        """Note that a host was not forked."""
        self._remove(host, SpawnFailed(reason))

    def reap(self, host: PooledHost) -> None:
        """Read the last messages of a host that has ended, and report the end of its attempts."""
        if host.status != 0:
            host.kill()
        with suppress(EOFError, OSError):
            while host.closed_at is None and host.connection.poll(0):
                for message in host.receive():
                    self._on_message(host, message)
        for slot, attempt in list(host.attempts.items()):
            with suppress(EOFError, OSError):
                while slot in host.attempts and not attempt.closed and attempt.connection.poll(0):
                    self._receive_attempt(host, slot, attempt)
        if host.pid is None:
            self.refuse(host, "its template ended")
            return
        exited = host.exited(self.processes)
        involved = len(host.attempts) + sum(one.killed for one in host.leaving.values())
        if host.killed:
            reason = "another trial of its process did not end, so the process was killed"
            exited = replace(exited, reason=reason, out_of_memory=False, blame=Blame.NONE)
        elif involved > 1:
            exited = replace(exited, blame=Blame.SHARED)
        self._remove(host, exited)

    def _remove(self, host: PooledHost, event: Event) -> None:
        self.shapes.forget_questions()
        host.copy_output()
        self._hosts = {group: one for group, one in self._hosts.items() if one is not host}
        for slot in sorted(host.attempts):
            self._emit(slot, event)
        host.close()
