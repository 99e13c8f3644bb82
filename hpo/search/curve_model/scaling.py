"""Scores of any metric on a scale for a Gaussian process."""

from __future__ import annotations

import numpy as np

from hpo.search.curve_model.encoding import Floats

FLOOR = 0.2
"""Part of the smallest distance that is added to all: what is left of it is mostly noise."""


def scaled(scores: Floats) -> Floats:
    """Return minus the logarithm of each score's distance to the ideal.

    A score that is not finite is as if it were twice as far from it as the worst one that is. Halving an error is worth
    the same anywhere, and the worst configurations do not outweigh the others.
    """
    finite = np.isfinite(scores)
    if not finite.any():
        return np.zeros(len(scores))
    away = _distances(scores[finite])
    smallest = float(away[away > 0].min()) if (away > 0).any() else 1.0
    known = -np.log(away + FLOOR * smallest)
    found = np.full(len(scores), known.min() - np.log(2))
    found[finite] = known
    return found


def _distances(scores: Floats) -> Floats:
    """Return distances to the best possible score, as far as it can be inferred.

    It is 0 for losses and errors, and -1 for accuracies and others that are at most 1, which are negated. Below that,
    the distance between the best score and the median is taken as what is left to gain.
    """
    best = float(scores.min())
    if best >= 0:
        return scores
    if best >= -1:
        return scores + 1
    return scores - best + (float(np.median(scores)) - best)
