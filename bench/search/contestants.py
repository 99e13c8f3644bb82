"""The contestants of the laboratory by name, each built for a table, a seed and a number of trials."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from functools import partial

from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler, RandomSampler

from bench.search.brackets import KerasTunerHyperband
from bench.search.curves import CurveTable
from bench.search.modelled import Modelled
from bench.search.promotion import Promotion
from bench.search.proposing import Trials
from bench.search.replay import Contestant
from bench.search.stopping import RayAsha, Stopping
from hpo.search.freeze_thaw import LEVELS, PARTS, FreezeThaw, Level, steps_of
from hpo.search.pruners import build_pruner
from hpo.search.samplers import build_sampler, startup_trials
from hpo.search.spec import StudySpec

TRIALS = 60
"""Trials of the search whose result the others must reach, and from which the sampler's start follows."""

Build = Callable[[CurveTable, int, "int | None"], Contestant]


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
) -> Trials:
    spec = spec_of(table, seed, sampler, pruner if isinstance(pruner, str) else "none")
    return Trials(
        space=table.space,
        direction=table.direction,
        sampler=_sampler(spec),
        first=table.first,
        name=f"{table.name}-{seed}",
        pruner=build_pruner(spec) if isinstance(pruner, str) else pruner,
    )


def _sampler(spec: StudySpec) -> BaseSampler:
    return RandomSampler(seed=spec.seed) if spec.sampler == "random" else build_sampler(spec)


def _optuna(sampler: str, pruner: str, table: CurveTable, seed: int, most: int | None) -> Contestant:
    return Stopping(_trials(table, seed, sampler=sampler, pruner=pruner), last=table.epochs, most=most)


def _ray(sampler: str, table: CurveTable, seed: int, most: int | None) -> Contestant:
    trials = _trials(table, seed, sampler=sampler, pruner=RayAsha(table.epochs))
    return Stopping(trials, last=table.epochs, most=most)


def _keras_tuner(table: CurveTable, seed: int, most: int | None) -> Contestant:  # noqa: ARG001 - brackets decide
    trials = _trials(table, seed, sampler="random")
    return KerasTunerHyperband(trials, last=table.epochs, maximize=table.maximize)


def _freeze_thaw(
    table: CurveTable,
    seed: int,
    most: int | None,
    *,
    sampler: str = "tpe",
    levels: Sequence[Level] = LEVELS,
    shown_from: Fraction = Fraction(0),
) -> Contestant:
    rule = FreezeThaw(epochs=table.epochs, levels=tuple(levels), shown_from=shown_from)
    return Promotion(_trials(table, seed, sampler=sampler), rule, maximize=table.maximize, most=most)


def variant(*levels: tuple[str, int], shown_from: str = "0") -> Build:
    """Return a rule of freeze-thaw with other rungs: part of the epochs, and one in how many goes on."""
    return partial(
        _freeze_thaw,
        levels=[Level(Fraction(part), one_in) for part, one_in in levels],
        shown_from=Fraction(shown_from),
    )


def _modelled(
    table: CurveTable,
    seed: int,
    most: int | None,
    *,
    parts: int = PARTS,
    margin: float = 0.5,
    sampler: str | None = None,
) -> Contestant:
    steps = FreezeThaw(epochs=table.epochs, levels=steps_of(table.epochs, parts)).rungs
    trials = None if sampler is None else _trials(table, seed, sampler=sampler)
    return Modelled(table, seed, most, steps=steps, trials=trials, margin=margin)


CONTESTANTS: dict[str, Build] = {
    "random": partial(_optuna, "random", "none"),
    "tpe": partial(_optuna, "tpe", "none"),
    "tpe+median": partial(_optuna, "tpe", "median"),
    "tpe+asha": partial(_optuna, "tpe", "asha"),
    "tpe+hyperband": partial(_optuna, "tpe", "hyperband"),
    "keras-tuner hyperband": _keras_tuner,
    "ray asha": partial(_ray, "random"),
    "ray asha+tpe": partial(_ray, "tpe"),
    "random+freeze-thaw": partial(_freeze_thaw, sampler="random"),
    "tpe+freeze-thaw": _freeze_thaw,
    "freeze-thaw model": _modelled,
}
REFERENCE = "tpe+median"

VARIANTS: dict[str, Build] = {
    "1/3:3": variant(("1/3", 3)),
    "1/3:4": variant(("1/3", 4)),
    "1/3:3 2/3:2": variant(("1/3", 3), ("2/3", 2)),
    "1/8:3 1/3:3": variant(("1/8", 3), ("1/3", 3)),
    "1/8:3 1/3:3 from 1/3": variant(("1/8", 3), ("1/3", 3), shown_from="1/3"),
    "1/8:2 1/3:3 from 1/3": variant(("1/8", 2), ("1/3", 3), shown_from="1/3"),
    "1/15:3 1/8:3 1/3:3": variant(("1/15", 3), ("1/8", 3), ("1/3", 3)),
    "1/15:3 1/8:3 1/3:3 from 1": variant(("1/15", 3), ("1/8", 3), ("1/3", 3), shown_from="1"),
    "1/8:2 1/4:2 1/2:2": variant(("1/8", 2), ("1/4", 2), ("1/2", 2)),
    "model": _modelled,
    "model, 4 steps": partial(_modelled, parts=4),
    "model, no margin": partial(_modelled, margin=0.0),
    "model+tpe": partial(_modelled, sampler="tpe"),
}
"""Freeze-thaw with other rungs; `from`: part of the epochs from which the sampler sees paused trials as pruned. The
model with other steps, without a margin for the running trial, and with TPE's proposals."""
