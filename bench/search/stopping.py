"""Rules that end a trial for good: Optuna's pruners, and Ray Tune's ASHA."""

from __future__ import annotations

from typing import Any

import numpy as np
import optuna
from optuna.pruners import BasePruner
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial

from bench.search.proposing import Trials
from bench.search.replay import Config


class Stopping:
    """A search that prunes: a free worker always gets a new trial."""

    def __init__(self, trials: Trials, *, last: int, most: int | None = None) -> None:
        """`last`: epochs of a complete trial; `most`: number of trials, None for no limit."""
        self._trials, self._last, self._most = trials, last, most
        self._begun = 0

    def next(self) -> int | None:
        return None if self._begun == self._most else self._begun

    def propose(self) -> Config:
        return self._trials.propose()

    def start(self, number: int, params: Config) -> None:  # noqa: ARG002 - numbers are consecutive
        self._begun += 1
        self._trials.start(params)

    def report(self, number: int, epoch: int, value: float) -> bool:
        self._trials.report(number, epoch, value)
        if epoch == self._last:
            self._trials.end(number, "complete", value)
            return False
        if self._trials.should_stop(number):
            self._trials.end(number, "pruned", value)
            return False
        return True


class RayAsha(BasePruner):
    """`ray.tune.schedulers.AsyncHyperBandScheduler` (Ray 2.60) with its defaults, as a pruner of Optuna.

    A trial that reaches a milestone goes on if it is not below the percentile of the values recorded there before it.
    """

    def __init__(self, last: int, grace_period: int = 1, reduction_factor: int = 4) -> None:
        self._quantile = (1 - 1 / reduction_factor) * 100
        rungs = int(np.log(last / grace_period) / np.log(reduction_factor) + 1)
        self._rungs: list[tuple[int, dict[int, float]]] = [
            (grace_period * reduction_factor**k, {}) for k in reversed(range(rungs))
        ]

    def prune(self, study: optuna.Study, trial: FrozenTrial) -> bool:
        epoch: Any = trial.last_step
        value = trial.intermediate_values[epoch]
        if study.direction == StudyDirection.MINIMIZE:
            value = -value
        for milestone, recorded in self._rungs:
            if epoch < milestone or trial.number in recorded:
                continue
            cutoff = np.nanpercentile(list(recorded.values()), self._quantile) if recorded else -np.inf
            recorded[trial.number] = value
            return bool(value < cutoff)
        return False
