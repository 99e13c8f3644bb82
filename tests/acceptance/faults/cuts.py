"""Cuts one or all agents off the database, by the network or by stopping them, and checks how they reconnect."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import psutil

from tests.acceptance.faults import stalls
from tests.acceptance.faults.clocks import HostClock
from tests.acceptance.faults.proxy import Proxy
from tests.acceptance.service import Running, Service

SECONDS = 60.0
"""Longest time until other agents have taken a trial, and until an agent that reconnects is fenced."""

EXPIRED = "its agent's lease expired"
"""Error of an attempt whose lease has expired."""

TRAINING = (
    "SELECT attempt_id, number FROM hpo.attempts a JOIN hpo.agents g USING (agent_id)"
    " JOIN hpo.trials USING (reservation_id) WHERE g.pid = :p AND a.ended_at IS NULL AND a.pid IS NOT NULL"
)
"""The attempts of an agent whose trainers have begun, and the numbers of their trials."""


@dataclass(eq=False)
class Member:
    """An agent of the study behind its own proxy of the database, and the faults that hit it."""

    running: Running
    door: Proxy
    clock: HostClock
    killed: bool = False
    terminated: bool = False
    cut_until: float | None = None
    """Earliest time of its reconnection; None while it is not cut off alone."""
    was_cut: bool = False
    """Whether it has been cut off alone."""
    stopped: Sequence[psutil.Process] = ()
    """Processes of its host that are stopped until then."""
    disk_was_full: bool = False
    unheard: bool = False
    """Whether it ended, or got SIGTERM, while it could not release its leases."""
    templates_killed: int = 0


@dataclass
class Fence:
    """Messages that an agent must print after it has reconnected."""

    member: Member
    numbers: list[int]
    """Numbers of the trials that other agents have taken."""
    printed: int
    """Length of its output when it was cut off."""
    until: float


class Cuts:
    """Cuts under way, each of which lasts longer than a lease."""

    def __init__(self, service: Service, members: list[Member], seconds: float) -> None:
        """Cut off `members`, a list that may change, for at least that many seconds."""
        self._service = service
        self._members = members
        self._seconds = seconds
        self._all_until: float | None = None
        self._held: dict[Member, tuple[list[Any], int]] = {}
        self._fences: list[Fence] = []
        self.fenced = 0
        """Number of attempts that have been fenced."""
        self.outliving: set[int] = set()
        """Attempts whose leases had expired when a cut of all agents ended."""

    @property
    def under_way(self) -> bool:
        """Whether any agent is cut off."""
        return self.all_cut or any(member.cut_until for member in self._members)

    @property
    def all_cut(self) -> bool:
        """Whether all agents are cut off, those that start now included."""
        return self._all_until is not None

    @property
    def settled(self) -> bool:
        """Whether all agents have reconnected and been fenced."""
        return not self.under_way and not self._fences

    def away(self, member: Member) -> bool:
        """Whether an agent cannot reach the database."""
        return self.all_cut or member.cut_until is not None

    def cut_one(self, member: Member) -> None:
        """Cut off an agent until others have its trials; it is fenced when it reconnects."""
        member.door.cut()
        self._await_takeover(member)

    def stop(self, member: Member, processes: Sequence[psutil.Process]) -> None:
        """Stop processes of an agent, itself included, until others have its trials; it is fenced when it continues."""
        stalls.suspend(processes)
        member.stopped = processes
        self._await_takeover(member)

    def _await_takeover(self, member: Member) -> None:
        member.cut_until, member.was_cut = time.monotonic() + self._seconds, True
        held = self._service.rows(TRAINING, p=member.running.pid)
        self._held[member] = held, len(member.running.output())

    def cut_all(self) -> None:
        """Cut off all agents: none can take a trial, and none loses one."""
        for member in self._members:
            member.door.cut()
        self._all_until = time.monotonic() + self._seconds

    def tend(self) -> None:
        """End the cuts that are over, and read the output of agents that have reconnected."""
        now = time.monotonic()
        if self._all_until is not None and now >= self._all_until:
            self._all_until = None
            alive = [m for m in self._members if m.running.alive and not m.killed and m.cut_until is None]
            self.outliving |= {
                row.attempt_id
                for row in self._service.rows(
                    "SELECT attempt_id FROM hpo.attempts a JOIN hpo.agents g USING (agent_id) WHERE a.ended_at IS NULL"
                    " AND a.lease_until < clock_timestamp() AND a.pid IS NOT NULL AND g.pid = ANY(:p)",
                    p=[member.running.pid for member in alive],
                )
            }
            for member in self._members:
                if member.cut_until is None:
                    member.door.heal()
        for member in self._members:
            if member.cut_until is not None and now >= member.cut_until and self._taken(member):
                member.cut_until = None
                if self._all_until is None and member.door.is_cut:
                    member.door.heal()
                stalls.resume(member.stopped)
                member.stopped = ()
                self._expect_fenced(member)
        self._fences = [fence for fence in self._fences if not self._obeyed(fence)]

    def _taken(self, member: Member) -> bool:
        """Whether other agents have taken all trials of an agent."""
        if not member.running.alive:
            return True
        open_ones = self._service.rows(
            "SELECT 1 FROM hpo.attempts a JOIN hpo.agents g USING (agent_id) WHERE g.pid = :p AND a.ended_at IS NULL",
            p=member.running.pid,
        )
        assert member.cut_until is not None
        late = time.monotonic() - member.cut_until
        assert not open_ones or late < SECONDS, "no agent took the trials of an agent that was cut off"
        return not open_ones

    def _expect_fenced(self, member: Member) -> None:
        attempts, printed = self._held.pop(member)
        lost = self._service.rows(
            "SELECT attempt_id FROM hpo.attempts WHERE attempt_id = ANY(:a) AND outcome = 'lost' AND error = :e",
            a=[attempt.attempt_id for attempt in attempts],
            e=EXPIRED,
        )
        taken = {row.attempt_id for row in lost}
        numbers = [attempt.number for attempt in attempts if attempt.attempt_id in taken]
        self._fences.append(Fence(member, numbers, printed, time.monotonic() + SECONDS))

    def _obeyed(self, fence: Fence) -> bool:
        """Whether an agent was fenced, or never will be because of another fault."""
        member = fence.member
        ended = not member.running.alive
        if member.killed or member.terminated or (ended and member.disk_was_full):
            return True
        if self.away(member):
            return False
        output = member.running.output()[fence.printed :]
        message = "another agent has taken the trial over, or hpo kill has ended it"
        fenced = [n for n in fence.numbers if _logged(output, n, message)]
        # If its trainer was killed meanwhile, the agent reports that instead.
        silent = [n for n in fence.numbers if n not in fenced and not _logged(output, n, "lost after")]
        if not silent:
            self.fenced += len(fenced)
            return True
        assert not ended, f"an agent was not fenced: {fence}\n{member.running.wait()}"
        assert time.monotonic() < fence.until, f"an agent is not fenced: {fence}\n{output}"
        return False


def _logged(output: str, trial: int, message: str) -> bool:
    """Return whether an agent has logged a message about a trial."""
    return re.search(rf" trial={trial} attempt=\d+ {message}", output) is not None
