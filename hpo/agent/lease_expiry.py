"""Which leases have not been renewed for so long that their agents must be gone.

The database's clock alone cannot tell: it may be set, and stands still while its machine sleeps. Nor can one
look: after an outage nobody has renewed yet. So an agent watches a doubtful lease for a while by its own
clock, which cannot be set, and gives it up only if it stays as it is.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime

from storage.leases import LeaseTimes, SuspectLease


class LeaseMonitor:
    """One agent's watch over the leases of others."""

    def __init__(self, times: LeaseTimes) -> None:
        self._times = times
        self._seen: dict[int, tuple[SuspectLease, float]] = {}
        self._looked = time.monotonic()
        self._began_anew = -math.inf

    def judge(self, doubtful: Mapping[int, SuspectLease]) -> dict[int, SuspectLease]:
        """Those of the doubtful leases, by attempt, that were given enough time to be renewed."""
        now, own = time.monotonic(), self._times.lease_seconds
        # Who was away itself has not watched, and the others may have been away too. Not again and again:
        # one that seldom looks must judge as well.
        if now - self._looked > own / 2 and now > self._began_anew + own:
            self._seen, self._began_anew = {}, now
        self._looked = now
        self._seen = {
            attempt: (lease, self._since(attempt, lease.until, now)) for attempt, lease in doubtful.items()
        }
        return {
            attempt: lease
            for attempt, (lease, since) in self._seen.items()
            if now - since >= replace(self._times, lease_seconds=lease.lease_seconds).grace_seconds
        }

    def _since(self, attempt: int, until: datetime, now: float) -> float:
        """When the lease was first seen to end as it does now."""
        before, since = self._seen.get(attempt, (None, now))
        return since if before is not None and before.until == until else now
