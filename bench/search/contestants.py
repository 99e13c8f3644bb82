"""The contestants of the laboratory by name, each built for a table, a seed and a number of trials."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial

from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler, RandomSampler
from optuna.trial import FrozenTrial, TrialState

from bench.search.brackets import KerasTunerHyperband
from bench.search.curves import CurveTable
from bench.search.promotion import Promotion
from bench.search.proposing import Trials, View
from bench.search.replay import Contestant
from bench.search.stopping import RayAsha, Stopping
from hpo.search.freeze_thaw import FreezeThaw
from hpo.search.pruners import build_pruner
from hpo.search.samplers import build_sampler, startup_trials
from hpo.search.spec import StudySpec

TRIALS = 60
"""Trials of the search whose result the others must reach, and from which the sampler's start follows."""

Build = Callable[[CurveTable, int, "int | None"], Contestant]


def paused_as_pruned(trials: list[FrozenTrial]) -> list[FrozenTrial]:
    """Return the trials with every open one that has reported as pruned at its last value."""
    return [_pruned(t) if t.state == TrialState.RUNNING and t.intermediate_values else t for t in trials]


def _pruned(trial: FrozenTrial) -> FrozenTrial:
    shown = copy.copy(trial)
    shown.state = TrialState.PRUNED
    shown.value = trial.intermediate_values[max(trial.intermediate_values)]
    return shown


def spec_of(table: CurveTable, seed: int, sampler: str, pruner: str) -> StudySpec:
    """Return the spec that the service would store for a study of the table's objective."""
    return StudySpec(
        objective=table.objective,
        metric=table.metric,
        direction=table.direction,
        epochs=table.epochs,
        space=table.space,
        objective_space=table.space,
        sampler=sampler,
        pruner=pruner,
        seed=seed,
        startup=startup_trials(TRIALS),
    )


def _trials(
    table: CurveTable,
    seed: int,
    *,
    sampler: str = "tpe",
    pruner: BasePruner | str = "none",
    view: View | None = None,
) -> Trials:
    spec = spec_of(table, seed, sampler, pruner if isinstance(pruner, str) else "none")
    return Trials(
        space=table.space,
        direction=table.direction,
        sampler=_sampler(spec),
        first=table.first,
        name=f"{table.name}-{seed}",
        pruner=build_pruner(spec) if isinstance(pruner, str) else pruner,
        view=view,
    )


def _sampler(spec: StudySpec) -> BaseSampler:
    return RandomSampler(seed=spec.seed) if spec.sampler == "random" else build_sampler(spec, 0)


def _optuna(sampler: str, pruner: str, table: CurveTable, seed: int, most: int | None) -> Contestant:
    return Stopping(_trials(table, seed, sampler=sampler, pruner=pruner), last=table.epochs, most=most)


def _ray(sampler: str, table: CurveTable, seed: int, most: int | None) -> Contestant:
    trials = _trials(table, seed, sampler=sampler, pruner=RayAsha(table.epochs))
    return Stopping(trials, last=table.epochs, most=most)


def _keras_tuner(table: CurveTable, seed: int, most: int | None) -> Contestant:  # noqa: ARG001 - brackets decide
    trials = _trials(table, seed, sampler="random")
    return KerasTunerHyperband(trials, last=table.epochs, maximize=table.maximize)


def _freeze_thaw(sampler: str, table: CurveTable, seed: int, most: int | None) -> Contestant:
    trials = _trials(table, seed, sampler=sampler, view=paused_as_pruned)
    return Promotion(trials, FreezeThaw(epochs=table.epochs), maximize=table.maximize, most=most)


CONTESTANTS: dict[str, Build] = {
    "random": partial(_optuna, "random", "none"),
    "tpe": partial(_optuna, "tpe", "none"),
    "tpe+median": partial(_optuna, "tpe", "median"),
    "tpe+asha": partial(_optuna, "tpe", "asha"),
    "tpe+hyperband": partial(_optuna, "tpe", "hyperband"),
    "keras-tuner hyperband": _keras_tuner,
    "ray asha": partial(_ray, "random"),
    "ray asha+tpe": partial(_ray, "tpe"),
    "random+freeze-thaw": partial(_freeze_thaw, "random"),
    "tpe+freeze-thaw": partial(_freeze_thaw, "tpe"),
}
REFERENCE = "tpe+median"
