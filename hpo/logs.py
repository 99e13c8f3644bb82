"""`hpo logs`: what attempts printed, from the database, whichever host they ran on."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

from sqlalchemy import Connection, text

from hpo.errors import UsageError
from hpo.study import find_study
from storage.engine import Database

FOLLOW_SECONDS = 1.0


class UnknownTrialError(UsageError):
    """The study has no trial of that number."""


@dataclass(frozen=True)
class AttemptText:
    """The last of what one attempt printed."""

    attempt_id: int
    number: int | None
    host: str
    slot: int
    device: str
    outcome: str | None
    """None while it runs."""
    error: str | None
    tail: str
    size: int
    """Bytes printed in all; the tail may be shorter."""

    @property
    def heading(self) -> str:
        """Which attempt of which trial this is, on one line."""
        cut = " (only its end was kept)" if self.size > len(self.tail.encode()) else ""
        how = self.outcome or "running"
        why = f": {self.error}" if self.error else ""
        return (
            f"== trial {self.number}, attempt {self.attempt_id} on {self.host}"
            f" slot {self.slot} ({self.device}), {how}{why}{cut}"
        )


def read_logs(database: Database, study: str, number: int | None) -> list[AttemptText]:
    """The logs of a trial's attempts, or of all, oldest first.

    Raises:
        UnknownStudyError: there is no such study.
        UnknownTrialError: it has no trial of that number.
    """
    study_id = find_study(database, study).study_id

    def read(c: Connection) -> list[AttemptText]:
        rows = c.execute(
            text(
                "SELECT a.attempt_id, t.number, a.host, a.slot, a.device, a.outcome, a.error,"
                " coalesce(l.tail, '') AS tail, coalesce(l.bytes, 0) AS size"
                " FROM hpo.attempts a JOIN hpo.trials t USING (token)"
                " LEFT JOIN hpo.attempt_logs l USING (attempt_id)"
                " WHERE t.study_id = :s AND (CAST(:n AS integer) IS NULL OR t.number = :n)"
                " ORDER BY a.attempt_id"
            ),
            {"s": study_id, "n": number},
        )
        return [AttemptText(*row) for row in rows]

    attempts = database.transaction(read)
    if number is not None and not attempts:
        raise UnknownTrialError(
            f"study {study!r} has no trial {number}: hpo trials --study {study} lists them"
        )
    return attempts


def follow_logs(database: Database, study: str, number: int | None) -> Iterator[str]:
    """What attempts have printed, then what they print, piece by piece.

    Ends when the one trial asked for is decided, or the study's budget is spent.
    """
    shown: dict[int, int] = {}
    speaking: int | None = None
    while True:
        # Asked before reading, so that what was printed last is not missed.
        goes_on = _goes_on(database, study, number)
        attempts = read_logs(database, study, number)
        for attempt in attempts:
            before = shown.get(attempt.attempt_id, 0)
            if attempt.size <= before:
                continue
            tail = attempt.tail.encode()
            new = tail[-min(attempt.size - before, len(tail)) :].decode("utf-8", "replace")
            shown[attempt.attempt_id] = attempt.size
            if speaking != attempt.attempt_id:
                yield attempt.heading + "\n"
                speaking = attempt.attempt_id
            yield new
        if not goes_on:
            return
        time.sleep(FOLLOW_SECONDS)


def _goes_on(database: Database, study: str, number: int | None) -> bool:
    """Whether anything may still be printed: an open trial, or a budget that is not spent."""
    study_id = find_study(database, study).study_id

    def read(c: Connection) -> bool:
        if number is not None:
            query = (
                "SELECT count(*) > 0 FROM hpo.trials WHERE study_id = :s AND number = :n AND outcome IS NULL"
            )
        else:
            query = (
                "SELECT count(*) FILTER (WHERE t.outcome IN ('complete', 'pruned', 'diverged', 'oom')) < s.budget"
                " FROM hpo.studies s LEFT JOIN hpo.trials t USING (study_id) WHERE s.study_id = :s GROUP BY s.budget"
            )
        return bool(c.execute(text(query), {"s": study_id, "n": number}).scalar_one())

    return database.transaction(read)
