"""Folds of cross-validation: the same for every trial of a study."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hpo.errors import DataDamagedError, UsageError
from objectives.base import DataOptions
from objectives.data.stratification import Indices, strata, stratified
from objectives.data.targets import Targets
from objectives.data_options import TaskName


def fold_indices(
    y: Targets,
    options: DataOptions,
    k: int,
    task: TaskName = "classes",
    groups: NDArray[np.int64] | None = None,
) -> list[tuple[Indices, Indices]]:
    """Return the sorted indices of the training and validation rows of each of `k` folds, the same for every trial.

    Each row is in the validation rows of one fold. Folds are stratified, and rows of a group stay together.

    Raises:
        UsageError: `k` is below 2.
        DataDamagedError: there are too few rows of a class, or too few groups.
    """
    if k < 2:
        raise UsageError(f"cross-validation needs at least 2 folds, not {k}")
    rng = np.random.default_rng([options.split_seed, k])
    rows = np.arange(len(y))
    kinds = strata(y, task)
    if options.limit is not None and options.limit < len(y):
        rows = stratified(kinds, options.limit, rng)
    if task in ("classes", "binary"):
        numbers, counts = np.unique(y[rows], return_counts=True)
        if counts.min() < k:
            raise DataDamagedError(
                f"class {numbers[counts.argmin()]} has {counts.min()} training rows, and {k} folds need one each: use"
                " fewer folds, or add rows"
            )
    if len(rows) < k:
        raise DataDamagedError(f"{len(rows)} training rows cannot be divided into {k} folds: use fewer folds")
    folds = (
        _stratified_folds(kinds[rows], k, rng)
        if groups is None
        else _group_folds(kinds[rows], groups[rows], k, rng)
    )
    return [(rows[folds != fold], rows[folds == fold]) for fold in range(k)]


def _stratified_folds(kinds: NDArray[np.int64], k: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return the fold of each row: dealt in turn, stratum by stratum, in random order inside each."""
    shuffled = rng.permutation(len(kinds))
    order = shuffled[np.argsort(kinds[shuffled], kind="stable")]
    folds = np.empty(len(kinds), np.int64)
    folds[order] = np.arange(len(kinds)) % k
    return folds


def _group_folds(
    kinds: NDArray[np.int64], groups: NDArray[np.int64], k: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Return the fold of each row: groups, the largest first, go where they even out the strata best."""
    names, numbers = np.unique(groups, return_inverse=True)
    if len(names) < k:
        raise DataDamagedError(f"{len(names)} groups cannot be divided into {k} folds: use fewer folds")
    counts = np.zeros((len(names), int(kinds.max()) + 1))
    np.add.at(counts, (numbers, kinds), 1)
    shares = counts / np.maximum(counts.sum(axis=0), 1)
    order = rng.permutation(len(names))
    totals, of_group = np.zeros((k, counts.shape[1])), np.zeros(len(names), np.int64)
    for group in order[np.argsort(-counts.sum(axis=1)[order], kind="stable")]:
        # A sum of squares is least where all folds have the same share of each stratum.
        growth = ((totals + shares[group]) ** 2 - totals**2).sum(axis=1)
        of_group[group] = growth.argmin()
        totals[of_group[group]] += shares[group]
    return of_group[numbers]
