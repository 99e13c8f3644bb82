"""Trials as far as they have trained, and the part of them that a model of their curves learns from."""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

MODELLED = 120
"""Trials that the model learns from, of more."""
LEARNED = 3
"""Scores of a curve that the model learns from: the last one, and each time one at half of its epochs at most."""


State = Literal["running", "paused", "ended"]


@dataclass(frozen=True, kw_only=True)
class Curve:
    """A trial of a study."""

    trial: int
    """Id by which the caller knows it."""
    ordinal: int
    """Its place in the order in which trials began."""
    params: Mapping[str, Any]
    scores: Mapping[int, float]
    """Score by epoch, smaller is better; not empty."""
    state: State

    @property
    def epoch(self) -> int:
        return max(self.scores)

    @property
    def score(self) -> float:
        """Last score; infinity if it is not finite."""
        last = self.scores[self.epoch]
        return last if math.isfinite(last) else math.inf

    @property
    def learned(self) -> list[int]:
        """Epochs whose scores the model learns from, in order."""
        found = [self.epoch]
        while len(found) < LEARNED and (
            earlier := max((epoch for epoch in self.scores if 2 * epoch <= found[-1]), default=None)
        ):
            found.append(earlier)
        return found[::-1]


def part_of(curves: Sequence[Curve], most: int = MODELLED) -> list[Curve]:
    """Return at most this many curves in order of their trials: half of them the best, a quarter the latest."""
    curves = sorted(curves, key=lambda one: one.ordinal)
    if len(curves) <= most:
        return list(curves)
    ranked = sorted(range(len(curves)), key=lambda place: (curves[place].score, place))
    chosen = {*ranked[: most // 2], *range(len(curves) - most // 4, len(curves))}
    spread = np.linspace(0, len(curves) - 1, most - len(chosen)).astype(int).tolist()
    return [curves[place] for place in sorted(chosen.union(spread))]


def state_of(curves: Sequence[Curve]) -> int:
    """Return a number that differs where trials have begun or trained on, and is the same for all agents."""
    trained = ",".join(
        f"{curve.ordinal}:{curve.epoch}" for curve in sorted(curves, key=lambda one: one.ordinal)
    )
    return zlib.crc32(trained.encode())
