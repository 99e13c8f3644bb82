"""Asking ahead: trials that are ready before their slots are free, where asking would keep slots waiting."""

from __future__ import annotations

from collections import deque
from collections.abc import Container, Iterator
from dataclasses import dataclass

from objectives.base import Params
from storage.budget import Claim, Counts

WORTH = 200
"""Trials are asked ahead where slots would wait for more than one part in so many of their time.

What is asked ahead is sampled without knowing how the trials end that run meanwhile: below, that knowledge is
worth more.
"""

_WEIGHT = 0.2
"""Of the newest duration in a moving average."""


@dataclass(frozen=True)
class PrefetchedTrial:
    """A share of the budget whose trial has been sampled: all that a slot needs."""

    claim: Claim
    trial_id: int
    number: int
    params: Params


class Prefetcher:
    """How many trials it pays to ask ahead, and what has been asked for."""

    def __init__(self, slots: int) -> None:
        self._slots = slots
        self._spares: deque[PrefetchedTrial] = deque()
        self._places: dict[int, int] = {}
        self._asking: float | None = None
        self._training: float | None = None

    def __iter__(self) -> Iterator[PrefetchedTrial]:
        """Those that have waited longest first."""
        # A copy: the lease keeper reads it from another thread.
        return iter(tuple(self._spares))

    def asked(self, seconds: float) -> None:
        """Learn how long claiming and sampling a trial took."""
        self._asking = _moved(self._asking, seconds)

    def trained(self, seconds: float) -> None:
        """Learn how long a trial kept its slot that has finished: one that failed says nothing of the next."""
        self._training = _moved(self._training, seconds)

    def expected(self, seconds: float) -> None:
        """Learn how long a trial may take that has come half way, where none has finished: the first ones, which began
        together, end together too."""
        if self._training is None:
            self._training = seconds

    def is_wanted(self, counts: Counts) -> bool:
        """Whether one more trial should be asked for now.

        As many as slots may wait for at once: where all fall free together, the last one waits until the agent
        has asked for all. An agent that has idle slots at the end of the budget takes what lies here.
        """
        if self._asking is None or self._training is None:
            return False
        worth = WORTH * self._asking * self._slots / max(self._training, 1e-9)
        return len(self._spares) + 1 <= min(worth, self._slots) and counts.left > counts.running

    def free_place(self) -> int:
        """A number for a slot that is none, beyond the real ones: claims are told apart by it."""
        return next(n for n in range(self._slots, 2 * self._slots) if n not in self._places.values())

    def add(self, place: int, spare: PrefetchedTrial) -> None:
        """Keep a trial that was claimed for a place of `free_place`."""
        self._places[spare.claim.attempt_id] = place
        self._spares.append(spare)

    def drop(self, attempts: Container[int]) -> None:
        """These are nobody's spares from now on: they are being trained, here or by another agent."""
        for spare in self:
            if spare.claim.attempt_id in attempts:
                self._spares.remove(spare)
                del self._places[spare.claim.attempt_id]


def _moved(average: float | None, seconds: float) -> float:
    return seconds if average is None else average + _WEIGHT * (seconds - average)
