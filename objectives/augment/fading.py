"""Changes to training images that become weaker over the last epochs, which then look more like those of the test."""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Integral, Real


@dataclass(frozen=True, kw_only=True)
class Progress:
    """The place of an epoch in its run, both counted from 1."""

    epoch: int = 1
    """Number of the epoch in the run."""
    place: int = 1
    """Number of the epoch in its cycle of the learning rate."""
    length: int = 1
    """Number of epochs in the cycle."""


@dataclass(frozen=True, kw_only=True)
class Fading:
    """The strength of random changes in each epoch; a restart of the schedule begins again with all of it."""

    fade: float = 0.0
    """Share of the epochs, the last ones, over which the changes become weaker, in equal steps."""
    plain_epochs: int = 0
    """Number of last epochs without the changes."""

    def strength(self, progress: Progress) -> float:
        """Return the strength in an epoch: from 1, all of the changes, to 0, none."""
        left = progress.length - self.plain_epochs - progress.place + 1
        return min(1.0, max(0, left) / (round(self.fade * progress.length) + 1))

    def fading_problem(self) -> str | None:
        """Return the first mistake as the end of a sentence; None if there is none."""
        if not is_number(self.fade) or not 0 <= self.fade <= 1:
            return f"fade must be a share from 0 to 1, not {self.fade!r:.60}"
        if not is_whole(self.plain_epochs):
            return f"plain_epochs must be a whole number of at least 0, not {self.plain_epochs!r:.60}"
        return None


def is_number(value: object) -> bool:
    """Return whether a value is a finite number."""
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


def is_whole(value: object) -> bool:
    """Return whether a value is a whole number of at least 0."""
    return isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= 0
