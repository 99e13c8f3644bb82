"""The front of two objectives: the points of which no other is better in one and at least as good in the other."""

from __future__ import annotations

from collections.abc import Sequence


def front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Return the indices of the points on the front, by their first value; smaller is better in both.

    Of equal points, the first is on it.
    """
    found: list[int] = []
    for index in sorted(range(len(points)), key=lambda index: (*points[index], index)):
        if not found or points[index][1] < points[found[-1]][1]:
            found.append(index)
    return found
