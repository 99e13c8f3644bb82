"""Trials of an artificial study: a formula plus noise of known size."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import numpy as np
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from hpo.analysis.common_epoch import Compared, Comparison
from hpo.search.space import from_unit
from hpo.study.results.trials import TrialRow

SPACE: Mapping[str, BaseDistribution] = {
    "dropout": FloatDistribution(0.0, 0.6),
    "weight_decay": FloatDistribution(1e-6, 1e-2, log=True),
    "layers": IntDistribution(1, 8),
    "optimizer": CategoricalDistribution(["sgd", "adam"]),
}
NOW = datetime(2026, 5, 4, tzinfo=UTC)


def compared(
    n: int,
    seed: int,
    formula: Callable[[Mapping[str, Any]], float],
    *,
    noise: float = 0.005,
    entangled: bool = False,
    maximize: bool = True,
    metric: str = "val_accuracy",
    space: Mapping[str, BaseDistribution] = SPACE,
) -> Comparison:
    """Return `n` trials; with `entangled`, weight decay is correlated with dropout."""
    rng = np.random.default_rng(seed)
    found = []
    for number in range(n):
        places = {name: float(rng.random()) for name in space}
        if entangled:
            places["weight_decay"] = float(np.clip(places["dropout"] + rng.normal(0, 0.2), 0, 1))
        params = {name: _value(place, space[name]) for name, place in places.items()}
        value = formula(params) + float(rng.normal(0, noise))
        trial = TrialRow(
            number=number,
            state="complete",
            why="",
            value=value,
            epochs=5,
            seconds=1.0,
            attempts=1,
            params=params,
            created_at=NOW,
        )
        found.append(Compared(trial, value))
    return Comparison(
        epoch=5,
        epochs_per_trial=5,
        trials=tuple(found),
        left_out=0,
        space=space,
        maximize=maximize,
        metric=metric,
    )


def _value(place: float, distribution: BaseDistribution) -> Any:
    if isinstance(distribution, CategoricalDistribution):
        return distribution.choices[int(place * len(distribution.choices))]
    return from_unit(place, distribution)
