"""Pruners that a study may choose; their steps are completed epochs, counted from 1."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, NopPruner, SuccessiveHalvingPruner

from hpo.search import freeze_thaw
from hpo.search.freeze_thaw import FreezeThaw
from hpo.search.samplers import without_experimental_warnings
from hpo.search.spec import StudySpec

REDUCTION = 3
"""Trials of which ASHA and Hyperband let one continue at each rung."""


@dataclass(frozen=True)
class Pruner:
    """An entry of `PRUNERS`."""

    build: Callable[[StudySpec], BasePruner]
    leaves: Callable[[StudySpec, int, int], float]
    """Epochs of so many trials, of so many epochs each, if it ends as many as early as its rule expects."""
    reads: Literal["nothing", "reports", "attributes", "rungs"]
    """Data that it decides by: reported values of a trial, also attributes in which it keeps its state, or our own
    table of rungs, in place of which Optuna gets a pruner that ends nothing."""


def _median(spec: StudySpec) -> BasePruner:
    warmup = 0 if spec.epochs is None else _warmup(spec.epochs)
    return MedianPruner(n_startup_trials=_complete(spec), n_warmup_steps=warmup)


def _complete(spec: StudySpec) -> int:
    """Return the number of complete trials without which the median pruner ends none.

    The first configuration is a known good one: with fewer to compare with, it alone would set the bar.
    """
    return min(5, spec.startup)


def _warmup(epochs: int) -> int:
    return max(1, math.ceil(epochs / 3))


def _median_leaves(spec: StudySpec, trials: int, epochs: int) -> float:
    complete = min(_complete(spec), trials)
    return complete * epochs + (trials - complete) * min(_warmup(epochs), epochs)


def _halving_leaves(trials: float, epochs: int, rungs: Iterable[tuple[int, int]]) -> float:
    """Return the epochs of trials of which one in so many passes each rung; `rungs` have an epoch and that number."""
    trained, before, share = 0.0, 0, 1.0
    for epoch, one_in in rungs:
        trained += share * (epoch - before)
        before, share = epoch, share / one_in
    return trials * (trained + share * (epochs - before))


def _rungs(spec: StudySpec, epochs: int, skipped: int = 0) -> list[tuple[int, int]]:
    """Return the rungs of ASHA, or of a bracket of Hyperband that skips the first ones."""
    found, epoch = [], _first_rung(spec) * REDUCTION**skipped
    while epoch < epochs:
        found.append((epoch, REDUCTION))
        epoch *= REDUCTION
    return found


def _hyperband_leaves(spec: StudySpec, trials: int, epochs: int) -> float:
    """Return the mean over brackets, each with the share of trials that Optuna gives it."""
    brackets = len(_rungs(spec, epochs + 1))
    shares = [math.ceil(brackets * REDUCTION**s / (s + 1)) for s in reversed(range(brackets))]
    return sum(
        _halving_leaves(trials * share / sum(shares), epochs, _rungs(spec, epochs, skipped))
        for skipped, share in enumerate(shares)
    )


MODELLED_SHARE = 0.55
"""Share of all epochs that 60 configurations train where a model decides: 0.5 to 0.6 in most of `bench/search`."""


def _freeze_thaw_leaves(spec: StudySpec, trials: int, epochs: int) -> float:
    rule = freeze_thaw_of(spec)
    if rule is not None and rule.modelled and rule.rungs:
        complete = min(rule.finalists, trials)
        return max(
            float(complete * epochs + (trials - complete) * rule.rungs[0]), MODELLED_SHARE * trials * epochs
        )
    return _halving_leaves(trials, epochs, () if rule is None else rule.one_in.items())


def _first_rung(spec: StudySpec) -> int:
    return 1 if spec.epochs is None else max(1, spec.epochs // REDUCTION**2)


def _asha(spec: StudySpec) -> BasePruner:
    first = "auto" if spec.epochs is None else _first_rung(spec)
    return SuccessiveHalvingPruner(min_resource=first, reduction_factor=REDUCTION)


def _hyperband(spec: StudySpec) -> BasePruner:
    last = "auto" if spec.epochs is None else spec.epochs
    return HyperbandPruner(min_resource=_first_rung(spec), max_resource=last, reduction_factor=REDUCTION)


PRUNERS = {
    "median": Pruner(_median, _median_leaves, "reports"),
    "asha": Pruner(
        _asha, lambda spec, n, epochs: _halving_leaves(n, epochs, _rungs(spec, epochs)), "attributes"
    ),
    "hyperband": Pruner(_hyperband, _hyperband_leaves, "attributes"),
    freeze_thaw.NAME: Pruner(lambda _: NopPruner(), _freeze_thaw_leaves, "rungs"),
    "none": Pruner(lambda _: NopPruner(), lambda _, n, epochs: n * epochs, "nothing"),
}


def can_prune(spec: StudySpec) -> bool:
    """Return whether the study's pruner may end or pause a trial."""
    return PRUNERS[spec.pruner].reads != "nothing"


def freeze_thaw_of(spec: StudySpec) -> FreezeThaw | None:
    """Return the rule by which trials of a study pause; None if they never do."""
    if spec.pruner != freeze_thaw.NAME or spec.epochs is None:
        return None
    return freeze_thaw.rule_for(spec.epochs, spec.rungs, modelled=spec.curve_model)


def epochs_left(spec: StudySpec, trials: int, epochs: int) -> int:
    """Return the epochs of so many trials of so many epochs if the pruner ends as many as early as its rule expects."""
    return math.ceil(PRUNERS[spec.pruner].leaves(spec, trials, epochs))


@without_experimental_warnings
def build_pruner(spec: StudySpec) -> BasePruner:
    """Return the study's pruner."""
    return PRUNERS[spec.pruner].build(spec)
