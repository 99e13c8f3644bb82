"""Progress of a study whose agents run elsewhere, polled from its database."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from hpo.outcomes import Outcome
from hpo.study.catalog import read_study
from hpo.study.monitoring.status import read_status
from hpo.study.monitoring.study_status import StudyStatus
from hpo.terminal.trial_lines import TrialEnd
from storage import trials
from storage.connection.retry import Retry
from storage.engine import Connection, Database

OVERLAP_SECONDS = 60.0
"""Seconds by which the commit of a decision may lag behind its time stamp."""


@dataclass(frozen=True)
class Update:
    """Result of one poll."""

    status: StudyStatus
    ended: Sequence[TrialEnd]
    """Trials decided since the last poll, the earliest first."""


class ProgressFeed:
    """Polls one study for its status and newly ended trials."""

    def __init__(self, database: Database, study_id: int, name: str, retry: Retry) -> None:
        self._database = database
        self._study_id = study_id
        self._name = name
        self._retry = retry
        self._since: datetime = self._database.transaction(trials.now, retry)
        self._known: set[int] = self._database.transaction(lambda c: trials.decided(c, study_id), retry)

    def poll(self) -> Update:
        """Return the status of the study and the trials that ended since the last call.

        Raises:
            UnknownStudyError: the study was deleted.
            StorageUnreachableError: the database stays unreachable.
        """
        status, ended = self._database.transaction(
            lambda c: (read_status(c, read_study(c, self._name, self._database)), self._decided(c)),
            self._retry,
        )
        for reservation_id, decided_at, _ in ended:
            self._known.add(reservation_id)
            self._since = max(self._since, decided_at)
        return Update(status, [end for _, _, end in ended])

    def _decided(self, connection: Connection) -> list[tuple[int, datetime, TrialEnd]]:
        rows = trials.decided_after(connection, self._study_id, self._since, OVERLAP_SECONDS)
        return [
            (
                row.reservation_id,
                row.decided_at,
                TrialEnd(
                    number=row.number,
                    outcome=Outcome(row.outcome),
                    value=row.value,
                    epochs=row.epochs,
                    seconds=row.seconds or 0.0,
                    params=row.params or {},
                    error=row.error or "",
                ),
            )
            for row in rows
            if row.reservation_id not in self._known
        ]
