"""Which trials of a study may be compared with each other, and at which epoch: pruned ones are not left out.

The trials that ran to their end are those that the pruner liked. Looking at them alone hides what made the others
bad, and the last value of a pruned trial is one of an earlier epoch. So all trials are
compared at one epoch: the last that nearly all of them reached.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hpo.outcomes import Outcome
from hpo.search.space_validation import is_within
from hpo.study.history import StudyHistory
from hpo.study.trials import TrialRow

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

REACHED_BY = 0.9
"""Share of the complete and pruned trials that must have reached the epoch at which all are compared."""


@dataclass(frozen=True)
class Compared:
    """One trial as it stood at the common epoch."""

    trial: TrialRow
    value: float
    """The study's metric after that epoch."""


@dataclass(frozen=True)
class Comparison:
    """Trials at one epoch."""

    epoch: int
    epochs_per_trial: int
    trials: tuple[Compared, ...]
    left_out: int
    """Trials with epochs that ended before that one, have no finite value there, or lie outside the space."""
    space: Mapping[str, BaseDistribution]
    maximize: bool
    metric: str

    @property
    def varied(self) -> list[str]:
        """Parameters that more than one value of was compared."""
        return [name for name in self.space if len({repr(one.trial.params[name]) for one in self.trials}) > 1]

    def describe(self) -> str:
        """How the trials were compared, in a sentence."""
        when = (
            "at their end"
            if self.epoch == self.epochs_per_trial
            else f"after epoch {self.epoch} of {self.epochs_per_trial}, where pruned trials still count"
        )
        left = f"; {self.left_out} could not be compared" if self.left_out else ""
        count = len(self.trials)
        return f"{count} trial{'' if count == 1 else 's'} compared {when}{left}."


def compare_trials(history: StudyHistory) -> Comparison:
    """The trials of a study at the last epoch that nearly all of them reached."""
    from hpo.search.spec import space_from_json

    metric = history.study.metric
    space = space_from_json(history.study.spec["space"])
    # One that runs has yet to get there, and one that diverged has no value to compare: neither decides.
    judged = [trial.epochs for trial in history.trials if trial.state in (Outcome.COMPLETE, Outcome.PRUNED)]
    reached = sorted((epochs for epochs in judged if epochs), reverse=True)
    epoch = reached[max(0, math.ceil(REACHED_BY * len(reached)) - 1)] if reached else 0
    found = []
    for trial in history.trials:
        rows = history.curves.get(trial.number, []) if trial.number is not None else []
        value = next((row.metrics.get(metric) for row in rows if row.epoch == epoch), None)
        if value is not None and math.isfinite(value) and _lies_in(trial.params, space):
            found.append(Compared(trial, value))
    return Comparison(
        epoch,
        int(history.study.spec["epochs"]),
        tuple(found),
        len(history.curves) - len(found),
        space,
        history.study.maximize,
        metric,
    )


def _lies_in(params: Mapping[str, Any], space: Mapping[str, BaseDistribution]) -> bool:
    return all(name in params and is_within(params[name], space[name]) for name in space)
