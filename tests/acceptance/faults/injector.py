"""Injects faults into the agents of a study, their processes, their disk and their database."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import TypeVar

import psutil

from storage.embedded.server import EmbeddedServer
from storage.embedded.sockets import answers
from tests.acceptance.faults import stalls
from tests.acceptance.faults.clocks import DatabaseClock, jump
from tests.acceptance.faults.cuts import TRAINING, Cuts, Member
from tests.acceptance.faults.disk import SmallDisk
from tests.acceptance.faults.schedule import DISK_FULL, Schedule
from tests.acceptance.faults.stalls import Stalls
from tests.acceptance.service import SOON, Service

T = TypeVar("T")

FULL_SECONDS = (0.5, 2.0)
"""Least and most seconds for which the disk is full."""


class NothingToHitError(Exception):
    """The target of a fault is missing, or has just ended."""


class Injector:
    """The faults, by name."""

    def __init__(
        self,
        service: Service,
        server: EmbeddedServer,
        members: list[Member],
        *,
        cuts: Cuts,
        disk: SmallDisk,
        clock: DatabaseClock,
        schedule: Schedule,
        lease_seconds: float,
        hung_seconds: float,
    ) -> None:
        """Hit `members`, a list that may change."""
        self.stalls = Stalls()
        self._service = service
        self._server = server
        self._members = members
        self._cuts = cuts
        self._disk = disk
        self._clock = clock
        self._schedule = schedule
        self._targets = random.Random(f"{schedule.seed} targets")
        self._lease_seconds = lease_seconds
        self._hung_seconds = hung_seconds
        self._full_until = 0.0
        self._clock_set_at = -lease_seconds
        self._faults: dict[str, Callable[[], None]] = {
            "trainer killed": self._kill_trainer,
            "template killed": self._kill_template,
            "agent killed": self._kill_agent,
            "agent terminated": self._terminate_agent,
            "agent cut off": self._cut_off_one,
            "all agents cut off": self._cut_off_all,
            "PostgreSQL crashed": self._crash_database,
            "trainer stopped": self._stop_trainer,
            "template stopped": self._stop_template,
            "agent stopped": self._stop_agent,
            "agent stopped past its lease": self._stop_agent_past_its_lease,
            "host frozen": self._freeze_host,
            DISK_FULL: self._fill_disk,
            "clock of an agent set": self._set_clock_of_agent,
            "clock of the database set": self._set_clock_of_database,
        }

    def inject(self, kind: str) -> None:
        """Inject a fault; raises NothingToHitError."""
        try:
            self._faults[kind]()
        except (psutil.NoSuchProcess, ProcessLookupError):
            raise NothingToHitError from None

    def tend(self) -> None:
        """End the faults whose time is over."""
        self._cuts.tend()
        self.stalls.tend()
        if self._disk.full:
            for member in self._members:
                member.disk_was_full = True
            if time.monotonic() >= self._full_until:
                self._disk.free()

    @property
    def settled(self) -> bool:
        """Whether all faults are over."""
        return self._cuts.settled and self.stalls.settled and not self._disk.full

    def wait_for(self, condition: Callable[[], bool], timeout: float) -> None:
        """Wait for a condition, and end faults that are over meanwhile."""
        self._service.wait_for(lambda: self.tend() or condition(), timeout)

    # Processes killed.

    def _kill_trainer(self) -> None:
        self._choose(self._trainers()).kill()

    def _kill_template(self) -> None:
        member = self._any_member()
        self._template(member).kill()
        member.templates_killed += 1

    def _kill_agent(self) -> None:
        member = self._any_member()
        member.killed = True
        member.running.kill()

    def _terminate_agent(self) -> None:
        # Until a stopped process continues, it gets no signal but SIGKILL.
        member = self._choose(member for member in self._awake() if self._joined(member))
        member.terminated = True
        member.unheard = self._cuts.away(member)
        running = member.running
        running.send_signal(signal.SIGTERM)
        self.wait_for(lambda: not running.alive, SOON)
        held = self._service.rows(
            "SELECT * FROM hpo.attempts a JOIN hpo.agents g USING (agent_id) WHERE g.pid = :p AND a.ended_at IS NULL",
            p=running.pid,
        )
        ended = running.wait()
        assert held == [] or member.unheard, (
            f"leases were kept: {held}\n{ended.code} {ended.err}\n{ended.out[-2000:]}"
        )

    # The network and the database.

    def _cut_off_one(self) -> None:
        self._cuts.cut_one(self._one_of_many())

    def _cut_off_all(self) -> None:
        self._refuse_while_stopped()
        if self._cuts.all_cut or not any(map(self._joined, self._members)):
            raise NothingToHitError
        self._cuts.cut_all()

    def _crash_database(self) -> None:
        self._refuse_while_stopped()
        pid = int((self._server.place.data / "postmaster.pid").read_text().split()[0])
        os.kill(pid, signal.SIGQUIT)
        # A server that is still shutting down answers, and would not be restarted.
        self._service.wait_for(lambda: not answers(self._server.place.socket), 30)
        time.sleep(self._schedule.pause(0.2, 2.0))
        self._server.ensure_running()

    # Processes stopped.

    def _stop_trainer(self) -> None:
        self.stalls.stop(self._choose(self._trainers()), self._short_or_hung())

    def _stop_template(self) -> None:
        member = self._any_member()
        template, seconds = self._template(member), self._short_or_hung()
        # It is replaced if a trial waits for it.
        member.templates_killed += seconds > self._hung_seconds
        self.stalls.stop(template, seconds)

    def _stop_agent(self) -> None:
        """Stop an agent for less than its lease."""
        if self._cuts.under_way or time.monotonic() - self._clock_set_at < self._lease_seconds:
            # It has to renew its lease as soon as it can, or by the new clock.
            raise NothingToHitError
        member = self._choose(member for member in self._awake() if self._joined(member))
        self.stalls.stop(
            psutil.Process(member.running.pid), self._targets.uniform(0.1, self._lease_seconds / 2)
        )

    def _stop_agent_past_its_lease(self) -> None:
        member = self._one_of_many()
        self._cuts.stop(member, [psutil.Process(member.running.pid)])

    def _freeze_host(self) -> None:
        member = self._one_of_many()
        self._cuts.stop(member, stalls.descendants(member.running.pid))

    def _short_or_hung(self) -> float:
        """Return seconds for which a process is stopped: too few or enough to count as hung."""
        if self._targets.random() < 0.5:
            return self._targets.uniform(0.1, self._hung_seconds / 2)
        return self._targets.uniform(self._hung_seconds + 1.0, self._hung_seconds + 3.0)

    # The disk and the clocks.

    def _fill_disk(self) -> None:
        if self._disk.full or not any(self._trainers()):
            raise NothingToHitError
        self._disk.fill()
        self._full_until = time.monotonic() + self._schedule.pause(*FULL_SECONDS)

    def _set_clock_of_agent(self) -> None:
        self._any_member().clock.set_ahead(jump(self._targets))

    def _set_clock_of_database(self) -> None:
        self._refuse_while_stopped()
        if self._cuts.under_way:
            raise NothingToHitError
        self._clock.set_ahead(jump(self._targets))
        self._clock_set_at = time.monotonic()

    # Targets.

    def _trainers(self) -> Iterator[psutil.Process]:
        for member in self._members:
            with suppress(psutil.NoSuchProcess):
                for template in psutil.Process(member.running.pid).children():
                    yield from template.children()

    def _template(self, member: Member) -> psutil.Process:
        try:
            return member.running.template
        except StopIteration:
            raise NothingToHitError from None

    def _any_member(self) -> Member:
        """Return an agent that has joined the study."""
        return self._choose(member for member in self._members if self._joined(member))

    def _one_of_many(self) -> Member:
        """Return an agent that trains while another one is left to take its trials."""
        able = [m for m in self._awake() if m.cut_until is None and self._joined(m)]
        if len(able) < 2:
            raise NothingToHitError
        return self._choose(each for each in able if self._service.rows(TRAINING, p=each.running.pid))

    def _awake(self) -> list[Member]:
        """Return the agents that are not stopped."""
        return [m for m in self._members if not m.stopped and not self.stalls.holds(m.running.pid)]

    def _refuse_while_stopped(self) -> None:
        """Raise if an agent is stopped: it cannot renew its lease in time if anything else delays it."""
        if len(self._awake()) < len(self._members):
            raise NothingToHitError

    def _choose(self, candidates: Iterable[T]) -> T:
        if not (found := list(candidates)):
            raise NothingToHitError
        return self._targets.choice(found)

    def _joined(self, member: Member) -> bool:
        return member.running.alive and bool(
            self._service.rows(
                "SELECT 1 FROM hpo.agents WHERE pid = :p AND ended_at IS NULL", p=member.running.pid
            )
        )
