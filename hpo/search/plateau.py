"""The rule of `--stop-when-flat`: the second half of a search has gained no more than other seeds would have.

What a search still gains falls as it goes on, so the gain of its second half bounds that of as many trials again. A
gain below the noise of the value cannot be told from luck (Makarova et al., "Automatic Termination for Hyperparameter
Optimization", 2022, who compare a bound of a Gaussian process with the noise). The rule knows neither databases nor
processes: agents read values from the database, simulations make them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

LEAST_WINDOW = 30
"""Trials over which the gain is measured at least, chosen by `bench.search.flatness`."""
LEAST_BEFORE = 10
"""Trials before these at least."""
LEAST_SINCE_BEST = 10
"""Trials without a new best one, at least, before the best configuration is repeated; also a quarter of all."""

REPEATS = 3
"""Repeats of a configuration unless `--repeats` sets another number."""


@dataclass(frozen=True, kw_only=True)
class Plateau:
    """The recent gain of a search; all values are smaller for better trials."""

    finished: int
    """Finished trials, without repeats and without those that freeze-thaw left paused."""
    window: int
    """The last of them, over which the gain is measured."""
    gain: float | None
    """Improvement of the best value by these; None: too early to measure it."""
    since_best: int
    """Finished trials since the best one."""

    @property
    def is_near(self) -> bool:
        """Whether the search may end soon, so that the noise has to be known."""
        return (
            self.finished >= LEAST_WINDOW
            and self.since_best >= max(LEAST_SINCE_BEST, self.finished / 4)
            and self.since_best < self.finished
        )

    def is_flat(self, deviation: float | None) -> bool:
        """Whether the gain is not larger than the standard deviation of a configuration's value over seeds."""
        return self.gain is not None and deviation is not None and self.gain <= deviation


def plateau(values: Sequence[float]) -> Plateau:
    """Return the recent gain of trials in the order of their ends; infinity for those that are not complete."""
    finished = len(values)
    window = max(LEAST_WINDOW, math.ceil(finished / 2))
    before, best = min(values[: max(0, finished - window)], default=math.inf), min(values, default=math.inf)
    known = finished - window >= LEAST_BEFORE and math.isfinite(before)
    return Plateau(
        finished=finished,
        window=window,
        gain=before - best if known else None,
        since_best=finished - 1 - values.index(best) if math.isfinite(best) else finished,
    )
