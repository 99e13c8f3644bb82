"""Expiry of other agents' leases, judged by this agent's own clock.

The database's clock alone cannot decide: it may be set, and stands still while its machine sleeps. Nor is one
check enough: after an outage no agent has renewed yet. So an agent watches a suspect lease for a while by its own
clock, which cannot be set, and ends it only if it stays as it is.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime

from storage.leases import LeaseTimes, SuspectLease


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
