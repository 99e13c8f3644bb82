"""Prefetching: trials that are sampled before their slots are free, if slots would wait for them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass

from objectives.base import Params
from storage.budget import Counts
from storage.claiming.claims import Claim

WORTH = 200
"""Smallest ratio of training time to waiting time at which trials are not prefetched.

A prefetched trial is sampled before the running ones have ended. Unless slots would wait for more than one part in
so many of their time, the knowledge of those ends is worth more.
"""

LEAST_IN_LANES = 4
"""Number of trials that are prefetched for lanes at least, where their shapes differ: a free lane can then get one of
the shape of its neighbours, which one program trains together."""

MOST_PASSED = 8
"""Number of times that later trials may be preferred to a prefetched one."""

_WEIGHT = 0.2
"""Weight of the newest duration in a moving average."""


@dataclass(frozen=True)
class PrefetchedTrial:
    """A sampled trial with its claim: all that a slot needs."""

    claim: Claim
    trial_id: int
    number: int
    params: Params


class Prefetcher:
    """Queue of prefetched trials, as long as the measured durations justify."""

    def __init__(self, slots: int) -> None:
        self._slots = slots
        # By prefetch slot, oldest first. Replaced, never changed: the thread that renews leases reads it too.
        self._queue: dict[int, PrefetchedTrial] = {}
        self._claim_seconds: float | None = None
        self._trial_seconds: float | None = None
        self._passed: Counter[int] = Counter()
        self.least = 0
        """Number of trials to prefetch, although slots would not wait for them."""

    def __iter__(self) -> Iterator[PrefetchedTrial]:
        return iter(self._queue.values())

    def record_claim(self, seconds: float) -> None:
        """Note the time that claiming and sampling a trial took."""
        self._claim_seconds = _moved(self._claim_seconds, seconds)

    def record_trial(self, seconds: float) -> None:
        """Note the time that a finished trial kept its slot; a failed trial predicts nothing."""
        self._trial_seconds = _moved(self._trial_seconds, seconds)

    def estimate_trial(self, seconds: float) -> None:
        """Note the expected time of a trial that is half done, until one has finished.

        The first trials begin together, so they end together too.
        """
        if self._trial_seconds is None:
            self._trial_seconds = seconds

    def wants_more(self, counts: Counts) -> bool:
        """Return whether one more trial should be prefetched now.

        The queue holds as many trials as slots may wait for at once: if all become free together, the last one waits
        for all claims. Near the end of the budget an agent with idle slots takes queued trials over.
        """
        if self._claim_seconds is None or self._trial_seconds is None:
            return False
        worth = WORTH * self._claim_seconds * self._slots / max(self._trial_seconds, 1e-9)
        wanted = max(worth, self.least)
        return len(self._queue) + 1 <= min(wanted, self._slots) and counts.left > counts.held

    def choose(self, preferred: Callable[[PrefetchedTrial], bool]) -> PrefetchedTrial | None:
        """Return the oldest trial, or one that is preferred, unless older ones were passed over too often."""
        for trial in self:
            if preferred(trial) or self._passed[trial.claim.attempt_id] >= MOST_PASSED:
                chosen = trial
                break
        else:
            return next(iter(self), None)
        for trial in self:
            if trial is chosen:
                break
            self._passed[trial.claim.attempt_id] += 1
        return chosen

    def free_slot(self) -> int:
        """Return a prefetch slot: a number beyond the real slots, which distinguishes claims."""
        return next(n for n in range(self._slots, 2 * self._slots) if n not in self._queue)

    def add(self, slot: int, trial: PrefetchedTrial) -> None:
        self._queue = {**self._queue, slot: trial}

    def discard(self, attempts: Container[int]) -> None:
        """Remove trials that are being trained, here or by another agent."""
        queue = self._queue.items()
        for trial in self:
            if trial.claim.attempt_id in attempts:
                del self._passed[trial.claim.attempt_id]
        self._queue = {slot: trial for slot, trial in queue if trial.claim.attempt_id not in attempts}


def _moved(average: float | None, seconds: float) -> float:
    return seconds if average is None else average + _WEIGHT * (seconds - average)
