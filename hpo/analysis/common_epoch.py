"""The comparison of complete and pruned trials at one epoch that nearly all of them reached.

Complete trials are a selection by the pruner, so they alone would hide the cause of bad values; and the last value of
a pruned trial belongs to an earlier epoch than that of a complete one. A complete trial that ended itself early keeps
its last value.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from hpo.analysis.statistics import is_comparable
from hpo.outcomes import Outcome
from hpo.study.history import StudyHistory
from hpo.study.results.trials import TrialRow
from objectives.spaces.choices import contains, identity
from objectives.spaces.space import lies_within

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

REACHED_BY = 0.9
"""Share of the complete and pruned trials that must have reached the epoch at which all are compared."""


@dataclass(frozen=True)
class Compared:
    """A trial and its value at the common epoch."""

    trial: TrialRow
    value: float
    """Value by the study's rule after that epoch, or after the last one of a complete trial that ended itself."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Trials compared at one epoch."""

    epoch: int
    epochs_per_trial: int
    trials: tuple[Compared, ...]
    left_out: int
    """Trials that ended earlier, have no finite value at this epoch, or one beyond 1e150, or lie outside the space."""
    space: Mapping[str, BaseDistribution]
    maximize: bool
    metric: str
    rule: str = "last"
    """Which report is the value of a trial up to that epoch."""

    @property
    def subject(self) -> str:
        """The compared number for display."""
        if self.rule == "best":
            return f"best {self.metric} up to epoch {self.epoch}"
        return f"{self.metric} after epoch {self.epoch}"

    @cached_property
    def varied(self) -> list[str]:
        """Parameters with more than one value among the compared trials that have them."""
        return [
            name
            for name in self.space
            if len({identity(one.trial.params[name]) for one in self.trials if name in one.trial.params}) > 1
        ]

    def lacks(self, name: str) -> bool:
        """Return whether some of the compared trials have no value for a parameter, which they did not use."""
        return any(name not in one.trial.params for one in self.trials)

    def describe(self) -> str:
        """Return a sentence on how the trials were compared."""
        if self.epoch == self.epochs_per_trial:
            when = f"at their {self.rule} epoch"
        else:
            by = "after" if self.rule == "last" else "by their best value up to"
            when = f"{by} epoch {self.epoch} of {self.epochs_per_trial}, which nearly all trials reached"
        left = f"; {self.left_out} could not be compared" if self.left_out else ""
        count = len(self.trials)
        return f"{count} trial{'' if count == 1 else 's'} compared {when}{left}."


def compare_trials(history: StudyHistory) -> Comparison:
    """Compare the trials of a study at the last epoch that nearly all of them reached."""
    space = history.space
    # Running trials may still reach it, and diverged trials have no value to compare.
    total = int(history.study.spec_json["epochs"])
    pruned = [trial.epochs for trial in history.trials if trial.state == Outcome.PRUNED and trial.epochs]
    complete = [total for trial in history.trials if trial.state == Outcome.COMPLETE]
    reached = sorted([*pruned, *complete], reverse=True)
    epoch = reached[max(0, math.ceil(REACHED_BY * len(reached)) - 1)] if reached else 0
    is_open = bool(history.study.spec_json.get("open_space"))

    def lies_in(params: Mapping[str, Any]) -> bool:
        # In an open space, each trial has its own parameters.
        if not is_open:
            return lies_within(params, space)
        return all(name in space and contains(space[name], value) for name, value in params.items())

    found = []
    for trial in history.trials:
        value = _value_at(epoch, trial, history)
        if value is not None and is_comparable(value) and lies_in(trial.params):
            found.append(Compared(trial, value))
    return Comparison(
        epoch=epoch,
        epochs_per_trial=total,
        trials=tuple(found),
        left_out=len(history.curves) - len(found),
        space=space,
        maximize=history.study.maximize,
        metric=history.study.metric,
        rule=history.study.value_rule,
    )


def _value_at(epoch: int, trial: TrialRow, history: StudyHistory) -> float | None:
    rows = history.curves.get(trial.number, []) if trial.number is not None else []
    if rows and trial.state == Outcome.COMPLETE:
        epoch = min(epoch, max(row.epoch for row in rows))
    reached = next((row for row in rows if row.epoch == epoch), None)
    if reached is None or history.study.value_rule == "last":
        return None if reached is None else reached.metrics.get(history.study.metric)
    judged = history.judged(trial.number, epoch)
    return None if judged is None else judged.value
