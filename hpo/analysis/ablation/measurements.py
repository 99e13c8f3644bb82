"""The runs of an experiment as an array of values, by point and seed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from hpo.outcomes import COUNTED, Outcome
from hpo.search.starting.design import Design
from hpo.study.history import StudyHistory
from objectives.spaces.choices import identity

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Measurements:
    """Values of an experiment."""

    design: Design
    metric: str
    maximize: bool
    values: Floats
    """Value of each run (points, seeds), oriented so that larger is better; NaN where it has none."""
    failed: NDArray[np.bool_]
    """Whether each run (points, seeds) ended without a value, as a diverged one does."""
    reports: Mapping[tuple[int, int], str]
    """All metrics of the last epoch of a run, as text, by point and seed."""

    @property
    def sign(self) -> int:
        """Factor of the orientation: 1, or -1 where smaller values of the metric are better."""
        return 1 if self.maximize else -1

    @property
    def finished(self) -> int:
        """Number of runs that have ended."""
        return int(np.isfinite(self.values).sum() + self.failed.sum())

    @cached_property
    def ignores_seed(self) -> bool:
        """Whether all runs of each point report the same to the last digit, so that the seed changes nothing."""
        of_point: dict[int, set[str]] = {}
        for (point, _), report in self.reports.items():
            of_point.setdefault(point, set()).add(report)
        repeated = [point for point in of_point if sum(key[0] == point for key in self.reports) > 1]
        return bool(repeated) and all(len(of_point[point]) == 1 for point in repeated)

    def is_same_as_base(self, point: int) -> bool:
        """Whether each run of a point reports the same as the base's run to the last digit."""
        pairs = [
            (report, self.reports[0, seed])
            for (place, seed), report in self.reports.items()
            if place == point and (0, seed) in self.reports
        ]
        return bool(pairs) and all(one == other for one, other in pairs)


def measured(history: StudyHistory) -> Measurements:
    """Return the values of the runs of an experiment's study."""
    design = Design.from_json(history.study.spec_json["design"])
    places = {identity(point.params): place for place, point in enumerate(design.points)}
    columns = {seed: place for place, seed in enumerate(design.seeds)}
    shape = (len(design.points), len(design.seeds))
    values, failed = np.full(shape, np.nan), np.zeros(shape, dtype=bool)
    reports: dict[tuple[int, int], str] = {}
    sign = 1 if history.study.maximize else -1
    for trial in history.trials:
        number = trial.number
        point = places.get(identity(dict(trial.params)))
        seed = columns.get(history.seeds.get(number)) if number is not None else None  # type: ignore[arg-type]
        if number is None or point is None or seed is None or trial.state not in COUNTED:
            continue
        value = trial.value
        if trial.state == Outcome.COMPLETE and value is not None and math.isfinite(value):
            values[point, seed] = sign * value
            if curve := history.curves.get(number):
                reports[point, seed] = identity_of(curve[-1].metrics)
        else:
            failed[point, seed] = True
    return Measurements(
        design=design,
        metric=history.study.metric,
        maximize=history.study.maximize,
        values=values,
        failed=failed,
        reports=reports,
    )


def identity_of(metrics: Mapping[str, float]) -> str:
    """Return a text that two reports share only if all their numbers are the same."""
    return " ".join(f"{name}={value!r}" for name, value in sorted(metrics.items()))
