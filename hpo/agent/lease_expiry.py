"""Expiry of other agents' leases, judged by this agent's own clock.

The database's clock alone cannot decide: it may be set, and stands still while its machine sleeps. One look does not
suffice either: after an outage no agent has renewed yet. So an agent watches a suspect lease for a while by its own
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
    """Watches the leases of other agents."""

    def __init__(self, times: LeaseTimes) -> None:
        self._times = times
        self._seen: dict[int, tuple[SuspectLease, float]] = {}
        self._looked_at = time.monotonic()
        self._restarted_at = -math.inf

    def expired(self, suspects: Mapping[int, SuspectLease]) -> dict[int, SuspectLease]:
        """Return the suspect leases, by attempt, that had enough time to be renewed."""
        now, own = time.monotonic(), self._times.lease_seconds
        # If this agent was offline, restart the observation window: others may have been offline too. Not again and
        # again: an agent that seldom looks must end leases as well.
        if now - self._looked_at > own / 2 and now > self._restarted_at + own:
            self._seen, self._restarted_at = {}, now
        self._looked_at = now
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
