"""Which leases have not been renewed for so long that their agents must be gone.

The database's clock alone cannot tell: it may be set, and stands still while its machine sleeps. Nor can one
look: after an outage nobody has renewed yet. So an agent watches a doubtful lease for a while by its own
clock, which cannot be set, and gives it up only if it stays as it is.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from datetime import datetime

from storage.leases import LeaseTimes


class Overdue:
    """One agent's watch over the leases of others."""

    def __init__(self, times: LeaseTimes) -> None:
        self._times = times
        self._seen: dict[int, tuple[datetime, float]] = {}
        self._looked = time.monotonic()
        self._began_anew = -math.inf

    def judge(self, doubtful: Mapping[int, datetime]) -> dict[int, datetime]:
        """Those of the doubtful leases, by attempt, that were given enough time to be renewed."""
        now, lease = time.monotonic(), self._times.lease_seconds
        # Who was away itself has not watched, and the others may have been away too. Not again and again:
        # one that seldom looks must judge as well.
        if now - self._looked > lease / 2 and now > self._began_anew + lease:
            self._seen, self._began_anew = {}, now
        self._looked = now
        self._seen = {
            attempt: (until, self._since(attempt, until, now)) for attempt, until in doubtful.items()
        }
        grace = self._times.grace_seconds
        return {attempt: until for attempt, (until, since) in self._seen.items() if now - since >= grace}

    def _since(self, attempt: int, until: datetime, now: float) -> float:
        """When the lease was first seen to end as it does now."""
        before, since = self._seen.get(attempt, (None, now))
        return since if before == until else now
