"""Asking ahead: a trial that is ready before a slot is free, where asking would keep slots waiting."""

from __future__ import annotations

from dataclasses import dataclass

from objectives.base import Params
from storage.budget import Claim, Counts

WORTH = 100
"""Trials that last more than so many times as long as asking for one are not asked ahead.

What is asked ahead is sampled without knowing how the trials end that run meanwhile. Where a slot would
wait for less than one per cent of its time, that knowledge is worth more.
"""

_WEIGHT = 0.2
"""Of the newest duration in a moving average."""


@dataclass(frozen=True)
class Prepared:
    """A share of the budget whose trial has been sampled: all that a slot needs."""

    claim: Claim
    trial_id: int
    number: int
    params: Params


class Ahead:
    """Whether it pays to ask ahead, and what has been asked for."""

    def __init__(self) -> None:
        self.spare: Prepared | None = None
        self._asking: float | None = None
        self._training: float | None = None

    def asked(self, seconds: float) -> None:
        """Learn how long claiming and sampling a trial took."""
        self._asking = _moved(self._asking, seconds)

    def trained(self, seconds: float) -> None:
        """Learn how long a trial kept its slot that has finished: one that failed says nothing of the next."""
        self._training = _moved(self._training, seconds)

    def is_wanted(self, counts: Counts) -> bool:
        """Whether a spare trial should be asked for now.

        Not near the end of the budget, where another agent's idle slot could train it at once.
        """
        if self.spare is not None or self._asking is None or self._training is None:
            return False
        unclaimed = counts.left - counts.running
        return unclaimed > counts.running and self._training < WORTH * self._asking

    def take(self) -> Prepared | None:
        """The spare trial, if there is one; it is nobody's spare from now on."""
        spare, self.spare = self.spare, None
        return spare


def _moved(average: float | None, seconds: float) -> float:
    return seconds if average is None else average + _WEIGHT * (seconds - average)
