"""Experiments with simulated values of known effects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution

from hpo.ablation.points import points_of
from hpo.analysis.ablation.effects import Ablation
from hpo.analysis.ablation.measurements import Floats, Measurements
from hpo.search.starting.design import Design, Settings, seeds_of

SPACE: dict[str, BaseDistribution] = {
    "optimizer": CategoricalDistribution(["sgd", "adam"]),
    "learning_rate": FloatDistribution(1e-4, 1e-1, log=True),
    "dropout": FloatDistribution(0.0, 0.6),
}
BASE = {"optimizer": "adam", "learning_rate": 1e-2, "dropout": 0.2}


def design_of(
    settings: Settings | None = None,
    space: Mapping[str, BaseDistribution] = SPACE,
    base: Mapping[str, Any] = BASE,
    recipe: Mapping[str, str] | None = None,
) -> Design:
    settings = settings or Settings(pairs=())
    return Design(
        study="s",
        trial=7,
        points=tuple(points_of(space, dict(base), settings, recipe or {})),
        seeds=tuple(seeds_of(settings.seeds)),
        settings=settings,
        recipe=recipe or {},
    )


def noisy(effects: Sequence[float], seeds: int, rng: np.random.Generator, noise: float = 0.001) -> Floats:
    """Return values (points, seeds) around 0.9 with an effect of each seed that all points share."""
    shared = rng.normal(0.0, 0.002, seeds)
    found: Floats = (
        0.9 + np.asarray(effects)[:, None] + shared + rng.normal(0.0, noise, (len(effects), seeds))
    )
    return found


def measurements_of(
    design: Design, values: Floats, *, maximize: bool = True, metric: str = "val_accuracy", same: bool = False
) -> Measurements:
    """Return measurements of values in units of the metric; NaN: the run ended without a value.

    `same`: runs report the same as the first one of their point.
    """
    oriented = values if maximize else -values
    reports = {
        (point, seed): f"loss={values[point, 0 if same else seed]!r} {0 if same else seed}"
        for point in range(values.shape[0])
        for seed in range(values.shape[1])
        if np.isfinite(values[point, seed])
    }
    return Measurements(
        design=design,
        metric=metric,
        maximize=maximize,
        values=oriented,
        failed=~np.isfinite(values),
        reports=reports,
    )


def ablation_of(design: Design, values: Floats, **options: Any) -> Ablation:
    return Ablation(measurements_of(design, values, **options), SPACE)
