"""What happens in a study, read from its database by whoever trains nothing of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, text

from hpo.agent.trial_store import StudySnapshot
from hpo.outcomes import Outcome
from hpo.study.status import StudyStatus, study_status
from hpo.terminal.progress import SlotView, TrialEnd
from storage import budget
from storage.engine import Database
from storage.retry import Retry

OVERLAP_SECONDS = 60.0
"""Decisions are committed in another order than their times say, but not by more than this."""


@dataclass(frozen=True)
class News:
    """What was found at one look."""

    snapshot: StudySnapshot
    slots: Sequence[SlotView]
    ended: Sequence[TrialEnd]
    """Trials decided since the last look, the earliest first."""
    hosts: Sequence[str]
    """Of each agent that has joined the study and is alive, whoever has placed it."""


class Feed:
    """Reads one study again and again."""

    def __init__(self, database: Database, study_id: int, name: str, retry: Retry) -> None:
        self._database = database
        self._study_id = study_id
        self._name = name
        self._retry = retry
        self._since: datetime = self._database.transaction(
            lambda c: c.execute(text("SELECT clock_timestamp()")).scalar_one(), retry
        )
        self._known: set[int] = self._database.transaction(self._decided_before, retry)

    def news(self) -> News:
        """The study now, and what has ended since the last call.

        Raises:
            UnknownStudyError: it was deleted.
            StorageUnreachableError: the database stays away.
        """
        status = study_status(self._database, self._name, self._retry)
        counts, ended = self._database.transaction(
            lambda c: (budget.count(c, self._study_id), self._decided(c)), self._retry
        )
        for token, decided_at, _ in ended:
            self._known.add(token)
            self._since = max(self._since, decided_at)
        return News(
            StudySnapshot(status.control, counts, _best(status)),
            [
                SlotView(
                    f"{slot.host} {slot.device}",
                    slot.number,
                    slot.epoch,
                    status.epochs_per_trial,
                    value=slot.metric,
                )
                for slot in status.slots
            ],
            [end for _, _, end in ended],
            [agent.host for agent in status.agents],
        )

    def _decided_before(self, connection: Connection) -> set[int]:
        rows = connection.execute(
            text("SELECT token FROM hpo.trials WHERE study_id = :s AND outcome IS NOT NULL"),
            {"s": self._study_id},
        )
        return set(rows.scalars())

    def _decided(self, connection: Connection) -> list[tuple[int, datetime, TrialEnd]]:
        rows = connection.execute(
            text(
                "SELECT t.token, t.number, t.outcome, t.value, t.epochs, t.params, t.error, t.decided_at,"
                " (SELECT extract(epoch FROM a.ended_at - a.started_at)::float8 FROM hpo.attempts a"
                "  WHERE a.token = t.token ORDER BY a.attempt_id DESC LIMIT 1) AS seconds"
                " FROM hpo.trials t WHERE t.study_id = :s AND t.outcome IS NOT NULL"
                " AND t.decided_at > CAST(:since AS timestamptz) - :overlap * interval '1 second'"
                " ORDER BY t.decided_at"
            ),
            {"s": self._study_id, "since": self._since, "overlap": OVERLAP_SECONDS},
        )
        return [
            (
                row.token,
                row.decided_at,
                TrialEnd(
                    row.number,
                    Outcome(row.outcome),
                    row.value,
                    row.epochs,
                    row.seconds or 0.0,
                    row.params or {},
                    row.error or "",
                ),
            )
            for row in rows
            if row.token not in self._known
        ]


def _best(status: StudyStatus) -> tuple[int, float, dict[str, object]] | None:
    if status.best_number is None or status.best_value is None:
        return None
    return status.best_number, status.best_value, dict(status.best_params or {})
