"""ROC and precision-recall curves of a final run, short enough to be stored."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from objectives.tasks.metrics import Floats, ranked

MOST_POINTS = 100
MOST_CURVES = 10

Curve = dict[str, list[float]]
"""The points of a curve: "x" and "y"."""


def curves(names: Sequence[str], outputs: Floats, positive: NDArray[np.bool_]) -> dict[str, dict[str, Curve]]:
    """Return the curves of scores (n, columns) by kind and name, of the names with most positive examples.

    A curve has at most `MOST_POINTS` points, spread evenly along it. A name without positive or without negative
    examples has none.
    """
    sizes = positive.sum(axis=0)
    usable = [column for column in range(len(names)) if 0 < sizes[column] < len(positive)]
    chosen = sorted(sorted(usable, key=lambda column: -int(sizes[column]))[:MOST_CURVES])
    found: dict[str, dict[str, Curve]] = {"roc": {}, "precision_recall": {}}
    ranks = ranked(outputs[:, chosen])
    for index, column in enumerate(chosen):
        right, all_chosen = _counts(ranks[:, index], positive[:, column])
        wrong = all_chosen - right
        found["roc"][names[column]] = _thinned(wrong / wrong[-1], right / right[-1])
        # The first point has no prediction; its precision is that of the next one.
        precision = right[1:] / all_chosen[1:]
        found["precision_recall"][names[column]] = _thinned(
            right / right[-1], np.concatenate([precision[:1], precision])
        )
    return found


def _counts(ranks: NDArray[Any], positive: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """Return how many positive examples, and how many in all, have at least the score of each threshold, from none."""
    size = int(ranks.max()) + 1
    right, chosen = (np.bincount(values, minlength=size)[::-1] for values in (ranks[positive], ranks))
    counts = [np.concatenate([[0.0], np.cumsum(each)]) for each in (right, chosen)]
    return counts[0], counts[1]


def _thinned(x: Floats, y: Floats) -> Curve:
    if len(x) > MOST_POINTS:
        way = np.concatenate([[0.0], np.cumsum(np.abs(np.diff(x)) + np.abs(np.diff(y)))])
        kept = np.unique(np.searchsorted(way, np.linspace(0.0, way[-1], MOST_POINTS)))
        kept[0], kept[-1] = 0, len(x) - 1
        x, y = x[kept], y[kept]
    return {"x": x.round(6).tolist(), "y": y.round(6).tolist()}
