"""Freeze and thaw, the rule of the service (`hpo.search.freeze_thaw`), over the trials of a replay."""

from __future__ import annotations

import copy

from optuna.trial import FrozenTrial, TrialState

from bench.search.proposing import Trials
from bench.search.replay import Config
from hpo.search.freeze_thaw import FreezeThaw, Ladder


class Promotion:
    """A search that pauses trials at rungs and resumes the best of each rung."""

    def __init__(self, trials: Trials, rule: FreezeThaw, *, maximize: bool, most: int | None = None) -> None:
        """`most`: number of configurations, None for no limit."""
        self._trials, self._rule, self._most = trials, rule, most
        self._ladder = Ladder(rule)
        self._sign = -1.0 if maximize else 1.0
        self._begun = self._running = self._complete = 0
        self._paused: dict[int, int] = {}
        """Epoch at which each paused trial is."""
        trials.show_as(self.shown)

    def next(self) -> int | None:
        found = self._ladder.thaw()
        if found is None and self._begun != self._most:
            found = self._begun
        if found is None and not self._running:
            found = self._ladder.finish(self._complete)
        if found is not None:
            self._running += 1
            self._paused.pop(found, None)
        return found

    def shown(self, trials: list[FrozenTrial]) -> list[FrozenTrial]:
        """Return the trials as the sampler of the service sees them: paused ones as pruned, from some epoch on."""
        return [
            _pruned(trial)
            if (epoch := self._paused.get(trial.number)) is not None and self._rule.shows(epoch)
            else trial
            for trial in trials
        ]

    def propose(self) -> Config:
        return self._trials.propose()

    def start(self, number: int, params: Config) -> None:  # noqa: ARG002 - numbers are consecutive
        self._begun += 1
        self._trials.start(params)

    def report(self, number: int, epoch: int, value: float) -> bool:
        self._trials.report(number, epoch, value)
        if epoch == self._rule.epochs:
            self._trials.end(number, "complete", value)
            self._complete += 1
            self._running -= 1
            return False
        goes_on = self._ladder.report(number, epoch, self._sign * value)
        if not goes_on:
            self._running -= 1
            self._paused[number] = epoch
        return goes_on


def _pruned(trial: FrozenTrial) -> FrozenTrial:
    shown = copy.copy(trial)
    shown.state = TrialState.PRUNED
    shown.value = trial.intermediate_values[max(trial.intermediate_values)]
    return shown
