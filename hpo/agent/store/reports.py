"""Epochs of an attempt on their way to our tables and, as reports of the objective's metric, to Optuna's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hpo.agent.store.study_session import StudySession
from hpo.search.spec import StudySpec
from hpo.trainer.messages import EpochRecord
from objectives.trial_value import Reported, reported
from storage import attempts
from storage.engine import Connection
from storage.optuna import live_trials


class Reports:
    """Stores epochs of one study and reports them to Optuna, both or neither."""

    def __init__(self, session: StudySession, spec: StudySpec) -> None:
        self._session = session
        self._metric = spec.metric
        self._own_steps = spec.epochs is None

    def record(self, attempt_id: int, records: Sequence[EpochRecord]) -> tuple[list[Reported], bool]:
        """Store epochs; return the metric that is valid for each, and whether the trial is open in Optuna.

        Raises:
            LeaseLostError: another agent holds the trial.
        """
        # The first report of an epoch counts.
        epochs = {one.epoch: (one.metrics, one.seconds) for one in reversed(records)}
        found = self._reported({epoch: metrics for epoch, (metrics, _) in epochs.items()})
        reports = {one.step: (one.epoch, one.value) for one in found}
        recorded = self._session.statement(live_trials.record, attempt_id, epochs, reports)
        if recorded.complete:
            return found, recorded.open
        return self._session.write(self._record_known, attempt_id, records)

    def _record_known(
        self, connection: Connection, attempt_id: int, records: Sequence[EpochRecord]
    ) -> tuple[list[Reported], bool]:
        """Report epochs of which some are stored already: what is stored counts."""
        rows = [(one.epoch, one.metrics, one.seconds) for one in records]
        found = self._reported(attempts.record(connection, attempt_id, rows))
        return found, live_trials.report(connection, attempt_id, {one.step: one.value for one in found})

    def _reported(self, epochs: Mapping[int, Mapping[str, float]]) -> list[Reported]:
        return reported(epochs, self._metric, own_steps=self._own_steps)
