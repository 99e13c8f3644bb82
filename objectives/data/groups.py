"""Rows of the same group, such as images of one person, which are never divided between splits."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def whole_groups(
    labels: NDArray[np.int64],
    groups: NDArray[np.int64],
    fraction: float,
    spare: int,
    rng: np.random.Generator,
) -> NDArray[np.intp]:
    """Return sorted positions of whole groups that have about this share of each class, and some images of each.

    Groups are looked at in random order, the largest first, and taken if that brings the numbers of images of all
    classes nearer to their shares. `spare` groups of each class are left.
    """
    names, numbers = np.unique(groups, return_inverse=True)
    counts = np.zeros((len(names), int(labels.max()) + 1))
    np.add.at(counts, (numbers, labels), 1)
    has, sizes = counts > 0, np.maximum(counts.sum(axis=0), 1)
    taken, left, chosen = np.zeros(len(sizes)), has.sum(axis=0), np.zeros(len(names), bool)
    order = rng.permutation(len(names))
    order = order[np.argsort(-counts.sum(axis=1)[order], kind="stable")]

    def take(group: int, *, if_nearer: bool) -> None:
        nonlocal taken, left
        before, after = taken / sizes - fraction, (taken + counts[group]) / sizes - fraction
        nearer = (after**2).sum() < (before**2).sum()
        if (left[has[group]] > spare).all() and (nearer or not if_nearer):
            taken, left, chosen[group] = taken + counts[group], left - has[group], True

    for group in order:
        take(group, if_nearer=True)
    # The smallest groups for classes that have none.
    for group in order[::-1]:
        if not chosen[group] and (has[group] & (taken == 0)).any():
            take(group, if_nearer=False)
    return np.flatnonzero(chosen[numbers])
