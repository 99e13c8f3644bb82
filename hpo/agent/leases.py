"""Leases: a thread renews those of this agent; the expiry of others is judged by this agent's own clock.

The database's clock alone cannot decide: it may be set, and stands still while its machine sleeps. Nor is one
check enough: after an outage no agent has renewed yet. So an agent watches a suspect lease for a while by its own
clock, which cannot be set, and ends it only if it stays as it is.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime

from hpo.errors import HpoError
from storage import leases
from storage.connection.retry import Retry, short_reason
from storage.engine import Database
from storage.leases import LeaseTimes, SuspectLease

CLOSE_SECONDS = 2.0

RETRY_SECONDS = 1.0
"""Time before the next renewal after one that failed."""

STUCK_SECONDS = 600.0
"""Time without a heartbeat of the agent's loop after which its leases are no longer renewed."""


class LeaseMonitor:
    """Decides which suspect leases have expired, by how long this agent has seen them unrenewed."""

    def __init__(self, times: LeaseTimes) -> None:
        self._times = times
        self._seen: dict[int, tuple[SuspectLease, float]] = {}
        self._checked_at = time.monotonic()
        self._restarted_at = -math.inf

    def expired(self, suspects: Mapping[int, SuspectLease]) -> dict[int, SuspectLease]:
        """Return the suspect leases, by attempt, that had enough time to be renewed and were not."""
        now, lease_seconds = time.monotonic(), self._times.lease_seconds
        # If this agent was offline, restart the observation window: others may have been offline too. At most
        # once per lease, so that an agent that seldom checks ends leases as well.
        if now - self._checked_at > lease_seconds / 2 and now > self._restarted_at + lease_seconds:
            self._seen, self._restarted_at = {}, now
        self._checked_at = now
        self._seen = {
            attempt: (lease, self._since(attempt, lease.until, now)) for attempt, lease in suspects.items()
        }
        return {
            attempt: lease
            for attempt, (lease, since) in self._seen.items()
            if now - since >= replace(self._times, lease_seconds=lease.lease_seconds).grace_seconds
        }

    def _since(self, attempt: int, until: datetime, now: float) -> float:
        """Return the time when the lease was first seen with its present end."""
        before, since = self._seen.get(attempt, (None, now))
        return since if before is not None and before.until == until else now


class LeaseRenewal(threading.Thread):
    """Renews leases every few seconds, and collects the attempts that other agents have ended.

    That this thread lives does not prove that its agent works: the loop may hang in a file system that does not
    answer, or in a terminal that takes no more output. So the loop sends heartbeats; without them the leases expire
    and other agents resume the trials.
    """

    def __init__(
        self, database: Database, agent_id: int, times: LeaseTimes, held: Callable[[], frozenset[int]]
    ) -> None:
        super().__init__(name="lease-renewal", daemon=True)
        self._database = database
        self._agent_id = agent_id
        self._times = times
        self._held = held
        self._done = threading.Event()
        self._heartbeat_at = time.monotonic()
        self._fenced: frozenset[int] = frozenset()
        self.last_error: str | None = None
        """Reason why the last renewal failed; None after a success."""

    def run(self) -> None:
        retry = Retry(patience_seconds=self._times.renew_seconds, interrupted=self._done)
        # Soon after a failure: other agents wait only so long for a renewal.
        while not self._done.wait(
            min(RETRY_SECONDS, self._times.renew_seconds) if self.last_error else self._times.renew_seconds
        ):
            if time.monotonic() - self._heartbeat_at > STUCK_SECONDS:
                continue
            # Before the renewal: an attempt claimed meanwhile must not pass for a lost one.
            held = self._held()
            try:
                live = self._database.transaction(
                    lambda connection: leases.renew(connection, self._agent_id, self._times.lease_seconds),
                    retry,
                )
            except Exception as exc:  # noqa: BLE001 - after any error the next renewal may succeed
                self.last_error = str(exc) if isinstance(exc, HpoError) else short_reason(exc)
                continue
            self.last_error = None
            self._fenced |= held - live

    def heartbeat(self) -> None:
        self._heartbeat_at = time.monotonic()

    def fenced(self) -> frozenset[int]:
        """Return the attempts that were held at a renewal but had been ended by another agent."""
        return self._fenced

    def close(self) -> None:
        """End the thread; leases are no longer renewed."""
        self._done.set()
        # It may wait for an unreachable database; it is a daemon and holds nothing.
        self.join(CLOSE_SECONDS)
