"""The value of a trial: the last or the best of the values that its objective reported."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

ValueRule = Literal["last", "best"]
"""Which report is the value of a trial: the one of its last epoch, or the best one up to its end."""
RULES = ("last", "best")

STEP = "step"
"""Metric in which an Optuna objective reports the step, since its epochs are numbered in the order of its reports."""
LARGEST_STEP = 2**31 - 1
"""Largest step that Optuna's tables hold."""


@dataclass(frozen=True)
class Reported:
    """A value of the objective's metric."""

    value: float
    epoch: int
    step: int
    """Step at which Optuna gets it."""


def reported(
    epochs: Mapping[int, Mapping[str, float]], metric: str, *, own_steps: bool = False
) -> list[Reported]:
    """Return the values of the metric in the metrics of each epoch, by epoch.

    `own_steps`: the objective counts its steps itself, as one of Optuna does.
    """
    return [
        Reported(metrics[metric], epoch, _step(metrics, epoch) if own_steps else epoch)
        for epoch, metrics in sorted(epochs.items())
        if metric in metrics
    ]


def chosen(reports: Iterable[Reported], rule: str, *, maximize: bool) -> Reported | None:
    """Return the report whose value is the trial's: that of the last step, or the earliest of the best finite ones."""
    if rule == "last":
        return max(reports, key=lambda one: one.step, default=None)
    sign = 1.0 if maximize else -1.0
    finite = (one for one in reports if math.isfinite(one.value))
    return max(finite, key=lambda one: (sign * one.value, -one.epoch), default=None)


def judged_metric(metric: str, rule: str) -> str:
    """Return the metric with the rule for display."""
    return f"{metric}, best epoch" if rule == "best" else metric


def goal(direction: str, metric: str, rule: str) -> str:
    """Return the goal of a study for display."""
    return f"{direction} {judged_metric(metric, rule)}"


def _step(metrics: Mapping[str, float], epoch: int) -> int:
    """Return the step of an Optuna objective, if the metric of that name is one."""
    step = metrics.get(STEP, epoch)
    return int(step) if 0 <= step <= LARGEST_STEP and step == int(step) else epoch
