"""Choice of rows in proportion to their classes or labels, without dividing groups."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from objectives.data.groups import whole_groups
from objectives.data.targets import Targets
from objectives.data_options import TaskName

Indices = NDArray[np.intp]

_RARE = 20
"""Rows with the same labels below which they are not stratified by all of these."""


def stratified(labels: NDArray[np.int64], count: int, rng: np.random.Generator, spare: int = 0) -> Indices:
    """Return about `count` sorted indices: each class in proportion, at least one, leaving at least `spare` of it.

    The number of indices differs from `count` only where these limits require it.
    """
    present, sizes = np.unique(labels, return_counts=True)
    most = np.maximum(sizes - spare, 0)
    shares = sizes * (count / len(labels))
    quotas = np.minimum(np.maximum(np.floor(shares).astype(np.intp), 1), most)
    for index in np.argsort(quotas - shares, kind="stable"):
        if quotas.sum() >= count:
            break
        quotas[index] = min(quotas[index] + 1, most[index])
    chosen = [
        rng.permutation(np.flatnonzero(labels == label))[:quota]
        for label, quota in zip(present, quotas, strict=True)
    ]
    return np.sort(np.concatenate(chosen))


def strata(y: Targets, task: TaskName) -> NDArray[np.int64]:
    """Return the number of the stratum of each row: its class, its set of labels, or one for all of regression."""
    if task == "regression":
        return np.zeros(len(y), np.int64)
    if task != "labels":
        return y.astype(np.int64, copy=False)
    packed = np.ascontiguousarray(np.packbits(y, axis=1))
    rows = packed.view(np.dtype((np.void, packed.shape[1]))).ravel()
    _, kinds, counts = np.unique(rows, return_inverse=True, return_counts=True)
    # Rare sets together: a part of one would be more or less than its share.
    return np.where(counts[kinds] < _RARE, len(counts), kinds).astype(np.int64)


def held_out(
    kinds: NDArray[np.int64],
    fraction: float,
    rng: np.random.Generator,
    groups: NDArray[np.int64] | None = None,
    spare: int = 1,
) -> Indices:
    """Return sorted indices of about a fraction of the rows: some of each stratum, `spare` of it left, whole groups."""
    if groups is not None:
        return whole_groups(kinds, groups, fraction, spare, rng)
    return stratified(kinds, round(len(kinds) * fraction), rng, spare)
