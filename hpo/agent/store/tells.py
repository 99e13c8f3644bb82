"""Outcomes that are committed to our own tables, and still to be reported to Optuna."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from optuna.exceptions import UpdateFinishedTrialError

from hpo.agent.store.study_session import StudySession
from hpo.outcomes import Outcome
from hpo.search.optuna_study import Search
from storage.optuna import trials as optuna_trials

STALE_SECONDS = 30.0
"""Age at which a decision that Optuna does not know was left by a dead agent."""


class Tells:
    """The outcomes of one study on their way to Optuna."""

    def __init__(self, session: StudySession, study_id: int, search: Search) -> None:
        self._session = session
        self._study_id = study_id
        self._search = search

    def deliver(self, attempt_id: int) -> None:
        """Report to Optuna the outcome of an attempt's trial, if it has one that Optuna does not know."""
        self._deliver(self._session.write(optuna_trials.pending_tell_of_attempt, attempt_id))

    def deliver_left(self, stale_seconds: float) -> None:
        """Report to Optuna the outcomes that dead agents left, of that age, and their stray trials, which are lost."""
        self._deliver(self._session.write(optuna_trials.pending_tells, self._study_id, stale_seconds))
        for trial_id, number in self._session.write(optuna_trials.stray_trials, self._study_id):
            self._tell(trial_id, number, Outcome.LOST, None)

    def _deliver(self, decided: Sequence[optuna_trials.PendingTell]) -> None:
        for trial in decided:
            self._tell(trial.trial_id, trial.number, trial.outcome, trial.value)
            self._session.statement(optuna_trials.mark_told, trial.reservation_id)

    def _tell(self, trial_id: int, number: int, outcome: Outcome, value: float | None) -> None:
        # Another agent may have reported it at the same moment.
        with suppress(UpdateFinishedTrialError):
            self._session.call(lambda: self._search.tell(trial_id, number, outcome, value))
