"""Folds of cross-validation: the same for every trial of a study."""

from __future__ import annotations

from collections.abc import Sequence

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
    names: Sequence[str] | None = None,
) -> list[tuple[Indices, Indices]]:
    """Return the sorted indices of the training and validation rows of each of `k` folds, the same for every trial.

    Each row is in the validation rows of one fold. Folds are stratified, and rows of a group stay together. `names` are
    those of the classes in messages.

    Raises:
        UsageError: `k` is below 2.
        DataDamagedError: there are too few rows or groups, of a class or of all.
    """
    if k < 2:
        raise UsageError(f"cross-validation needs at least 2 folds, not {k}")
    rng = np.random.default_rng([options.split_seed, k])
    rows = np.arange(len(y))
    kinds = strata(y, task)
    if options.limit is not None and options.limit < len(y):
        rows = stratified(kinds, options.limit, rng)
    in_groups = None if groups is None else groups[rows]
    units, kind = (len(rows), "training rows") if in_groups is None else (len(np.unique(in_groups)), "groups")
    has_classes = task in ("classes", "binary")
    if has_classes and (in_groups is None or units >= k):
        _check_classes(y[rows], in_groups, k, names)
    if units < k:
        raise DataDamagedError(f"{units} {kind} cannot be divided into {k} folds: use fewer folds")
    folds = (
        _stratified_folds(kinds[rows], k, rng)
        if in_groups is None
        else _group_folds(kinds[rows], in_groups, k, rng)
    )
    if has_classes:
        _check_folds(y[rows], folds, k, names)
    return [(rows[folds != fold], rows[folds == fold]) for fold in range(k)]


def _check_classes(y: Targets, groups: NDArray[np.int64] | None, k: int, names: Sequence[str] | None) -> None:
    """Check that each class has a row for each fold, and rows in as many groups."""
    found = y if groups is None else np.unique(np.stack([y, groups]), axis=1)[0]
    numbers, counts = np.unique(found, return_counts=True)
    count, name = counts.min(), _name(numbers[counts.argmin()], names)
    if count >= k:
        return
    plural = "" if count == 1 else "s"
    if groups is None:
        raise DataDamagedError(
            f"class {name} has {count} training row{plural}, and {k} folds need one each: use fewer folds, or add rows"
        )
    raise DataDamagedError(
        f"class {name} has training rows in {count} group{plural}, and {k} folds need a group of it each: use fewer"
        " folds, or smaller groups"
    )


def _check_folds(y: Targets, folds: NDArray[np.int64], k: int, names: Sequence[str] | None) -> None:
    """Check that each fold holds out rows of each class, which the others then train on."""
    for number in np.unique(y):
        if len(np.unique(folds[y == number])) < k:
            raise DataDamagedError(
                f"a fold would hold out no row of class {_name(number, names)}, because a group is never divided: use"
                " fewer folds, or smaller groups"
            )


def _name(number: int, names: Sequence[str] | None) -> str:
    return str(number) if names is None else names[number]


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
    counts = np.zeros((len(names), int(kinds.max()) + 1))
    np.add.at(counts, (numbers, kinds), 1)
    shares = counts / np.maximum(counts.sum(axis=0), 1)
    order = rng.permutation(len(names))
    totals, of_group = np.zeros((k, counts.shape[1])), np.zeros(len(names), np.int64)
    rows = np.zeros(k)
    for group in order[np.argsort(-counts.sum(axis=1)[order], kind="stable")]:
        # A sum of squares is least where all folds have the same share of each stratum.
        growth = ((totals + shares[group]) ** 2 - totals**2).sum(axis=1)
        # Of equal folds the smallest, so that none stays empty.
        fold = np.lexsort((rows, growth))[0]
        of_group[group] = fold
        totals[fold] += shares[group]
        rows[fold] += counts[group].sum()
    return of_group[numbers]
