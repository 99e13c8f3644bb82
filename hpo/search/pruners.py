"""Pruners that a study may choose; their steps are completed epochs, counted from 1."""

from __future__ import annotations

import math
from collections.abc import Callable
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
    reads: Literal["nothing", "reports", "attributes", "rungs"]
    """Data that it decides by: reported values of a trial, also attributes in which it keeps its state, or our own
    table of rungs, in place of which Optuna gets a pruner that ends nothing."""


def _median(spec: StudySpec) -> BasePruner:
    # The first configuration is a known good one: with fewer to compare with, it alone would set the bar.
    warmup = 0 if spec.epochs is None else max(1, math.ceil(spec.epochs / 3))
    return MedianPruner(n_startup_trials=min(5, spec.startup), n_warmup_steps=warmup)


def _first_rung(spec: StudySpec) -> int:
    return 1 if spec.epochs is None else max(1, spec.epochs // REDUCTION**2)


def _asha(spec: StudySpec) -> BasePruner:
    first = "auto" if spec.epochs is None else _first_rung(spec)
    return SuccessiveHalvingPruner(min_resource=first, reduction_factor=REDUCTION)


def _hyperband(spec: StudySpec) -> BasePruner:
    last = "auto" if spec.epochs is None else spec.epochs
    return HyperbandPruner(min_resource=_first_rung(spec), max_resource=last, reduction_factor=REDUCTION)


PRUNERS = {
    "median": Pruner(_median, "reports"),
    "asha": Pruner(_asha, "attributes"),
    "hyperband": Pruner(_hyperband, "attributes"),
    freeze_thaw.NAME: Pruner(lambda _: NopPruner(), "rungs"),
    "none": Pruner(lambda _: NopPruner(), "nothing"),
}


def can_prune(spec: StudySpec) -> bool:
    """Return whether the study's pruner may end or pause a trial."""
    return PRUNERS[spec.pruner].reads != "nothing"


def freeze_thaw_of(spec: StudySpec) -> FreezeThaw | None:
    """Return the rule by which trials of a study pause; None if they never do."""
    if spec.pruner != freeze_thaw.NAME or spec.epochs is None:
        return None
    if not spec.rungs:
        return FreezeThaw(epochs=spec.epochs)
    return FreezeThaw(epochs=spec.epochs, levels=freeze_thaw.levels_of(spec.epochs, spec.rungs))


@without_experimental_warnings
def build_pruner(spec: StudySpec) -> BasePruner:
    """Return the study's pruner."""
    return PRUNERS[spec.pruner].build(spec)
