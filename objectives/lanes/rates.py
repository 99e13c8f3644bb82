"""The number of lanes that is worth it, given the images per second of 1, 2, 4, … of them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

MOST_LANES = 64
LEAST_GAIN = 1.1
"""Twice as many lanes have to train at least so many times as many images per second."""


@dataclass(frozen=True)
class Measured:
    """Speed and memory of a number of lanes; one lane is a trial in a process of its own."""

    width: int
    images_per_second: float
    """Of all lanes together, while each has a batch."""
    bytes_in_use: int | None = None
    """Largest memory that was in use so far, of the device or of the process; None: not known."""


def widths(most: int) -> Iterator[int]:
    """Yield the numbers of lanes to measure, in order: 1, 2, 4, … and `most`."""
    width = 1
    while width < most:
        yield width
        width *= 2
    yield most


def grows(found: Sequence[Measured]) -> bool:
    """Whether more lanes may train more images per second than the last ones."""
    if len(found) < 2:
        return True
    before, last = found[-2:]
    # Two lanes may be no faster where four are, because a trial alone needs no step of several.
    least = 1.0 if last.width == 2 else LEAST_GAIN ** math.log2(last.width / before.width)
    return last.images_per_second >= least * before.images_per_second


def best(found: Sequence[Measured], trials: int | None = None) -> int:
    """Return the number of lanes with the shortest time for so many trials, or for any number of them.

    The smaller one of two that are about as fast, because samplers then know more when they choose a configuration.
    """

    def rate(one: Measured) -> float:
        if trials is None:
            return one.images_per_second
        rounds = math.ceil(trials / one.width)
        return one.images_per_second * trials / (rounds * one.width)

    chosen = found[0]
    for one in found[1:]:
        if rate(one) >= LEAST_GAIN * rate(chosen):
            chosen = one
    return chosen.width
