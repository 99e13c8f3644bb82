"""Random faults, and their order."""

from __future__ import annotations

import random
from collections.abc import Mapping

QUICK: Mapping[str, int] = {
    "trainer killed": 4,
    "template killed": 2,
    "agent killed": 2,
    "agent terminated": 2,
    "agent cut off": 1,
    "all agents cut off": 1,
    "PostgreSQL crashed": 1,
}
"""Faults of a short run: number of each in a deck, from which they are drawn, so that every kind occurs soon."""

DISK_FULL = "disk full"

FAULTS: Mapping[str, int] = {
    **QUICK,
    "trainer stopped": 3,
    "template stopped": 2,
    "agent stopped": 2,
    "agent stopped past its lease": 1,
    "host frozen": 1,
    DISK_FULL: 1,
    "clock of an agent set": 1,
    "clock of the database set": 1,
}
"""Faults of a long run, which stop processes with SIGSTOP, fill the disk and set clocks as well."""


class Schedule:
    """The next fault and the pause before it, determined by the seed alone."""

    def __init__(self, seed: int, deck: Mapping[str, int]) -> None:
        self.seed = seed
        # Two streams: the number of draws from one must not change the values of the other.
        self._order, self._pauses = random.Random(f"{seed} order"), random.Random(f"{seed} pauses")
        self._full = deck
        self._deck: list[str] = []

    @property
    def kinds(self) -> frozenset[str]:
        return frozenset(self._full)

    def next(self) -> str:
        """Return the fault to inject now, the same until it is `done`."""
        if not self._deck:
            self._deck = [kind for kind, often in self._full.items() for _ in range(often)]
            self._order.shuffle(self._deck)
        return self._deck[-1]

    def done(self) -> None:
        """Note that the fault has hit its target."""
        self._deck.pop()

    def pause(self, least: float, most: float) -> float:
        """Return the seconds to wait before the next fault."""
        return self._pauses.uniform(least, most)
