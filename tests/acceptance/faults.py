"""What is done to a study under fire, and in which order."""

from __future__ import annotations

import random
from collections.abc import Mapping

FAULTS: Mapping[str, int] = {
    "trainer killed": 4,
    "template killed": 2,
    "agent killed": 2,
    "agent terminated": 2,
    "agent cut off": 1,
    "all agents cut off": 1,
    "PostgreSQL crashed": 1,
}
"""How often each comes in a deck, from which they are drawn: so every kind occurs soon and often."""


class Schedule:
    """Which fault comes next, and how long until then: by the seed alone, whatever became of the ones before."""

    def __init__(self, seed: int) -> None:
        # Each a stream of its own: how often one is drawn from must not change what another gives.
        self._order, self._pauses = random.Random(f"{seed} order"), random.Random(f"{seed} pauses")
        self._deck: list[str] = []

    def next(self) -> str:
        """The fault to inject now, the same until it is `done`."""
        if not self._deck:
            self._deck = [kind for kind, often in FAULTS.items() for _ in range(often)]
            self._order.shuffle(self._deck)
        return self._deck[-1]

    def done(self) -> None:
        """It has hit something."""
        self._deck.pop()

    def pause(self, least: float, most: float) -> float:
        """How long to wait before the next."""
        return self._pauses.uniform(least, most)
