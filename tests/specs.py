"""Specs of studies."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from optuna.distributions import BaseDistribution, FloatDistribution

from hpo.search.freeze_thaw import Level
from hpo.search.spec import StudySpec

THIRDS = tuple(Level(Fraction(1, part), 3) for part in (27, 9, 3))
"""Rungs of freeze-thaw that do not depend on its defaults."""

SPACE = {"x": FloatDistribution(0.0, 1.0)}


def spec(space: Mapping[str, BaseDistribution] = SPACE, **options: Any) -> StudySpec:
    """Return the spec of a study that minimizes the loss of two epochs with a random sampler."""
    options = {"objective": "o", "metric": "loss", "direction": "minimize", "epochs": 2, **options}
    return StudySpec(
        **{"space": space, "objective_space": space, "sampler": "random", "pruner": "none", **options}
    )
