"""Decisions of the fake store on which trials go on."""

from __future__ import annotations

from collections.abc import Mapping

from hpo.agent.store.testing.study import FakeStudy


class FakeJudgement:
    """A `Judgement` without a database or an Optuna."""

    def __init__(self, study: FakeStudy) -> None:
        self.study = study

    def epochs_are_spent(self) -> bool:
        most = self.study.spec.max_epochs
        return most is not None and sum(len(trial.epochs) for trial in self.study.trials) >= most

    def pauses(self, attempt_id: int, scores: Mapping[int, float]) -> bool:
        trial, ladder = self.study.guard(attempt_id).trial, self.study.ladder
        if ladder is None or trial.paused:
            return trial.paused
        trial.paused = not ladder.judge(trial.number, scores)
        return trial.paused

    def replay(self, attempt_id: int, trial_id: int) -> None:
        """Do nothing: the fake's pruner keeps no notes."""

    def should_prune(self, attempt_id: int, trial_id: int) -> bool:
        return self.study.prunes(trial_id - 1, max(self.study.guard(attempt_id).trial.epochs))
