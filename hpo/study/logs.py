"""`hpo logs`: what attempts printed, from the database, whichever host they ran on."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial

from sqlalchemy import Connection, text

from hpo.errors import UsageError
from hpo.study.catalog import find_study, read_study
from storage.budget import SQL_FINISHED
from storage.engine import Database

FOLLOW_SECONDS = 1.0

LATE = timedelta(minutes=1)
"""How long what was written may take to be committed: who looks meanwhile finds it in a later look."""

_ABOUT = "a.attempt_id, t.number, a.host, a.slot, a.device, a.outcome, a.error"


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
                f"SELECT {_ABOUT}, coalesce(l.tail, '') AS tail, coalesce(l.bytes, 0) AS size"
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
        raise _unknown(study, number)
    return attempts


def follow_logs(database: Database, study: str, number: int | None) -> Iterator[str]:
    """What attempts have printed, then what they print, piece by piece.

    Ends when the one trial asked for is decided, or the study's budget is spent.

    Raises:
        UnknownStudyError: there is no such study, or none any more.
        UnknownTrialError: it has no trial of that number.
    """
    shown: dict[int, int] = {}
    speaking: int | None = None
    seen = _Seen()
    while seen.goes_on:
        if seen.since is not None:
            time.sleep(FOLLOW_SECONDS)
        seen = database.transaction(partial(_look, database=database, study=study, number=number, last=seen))
        for attempt in seen.changed:
            new = attempt.size - shown.get(attempt.attempt_id, 0)
            if new <= 0:
                continue
            shown[attempt.attempt_id] = attempt.size
            if speaking != attempt.attempt_id:
                yield attempt.heading + "\n"
                speaking = attempt.attempt_id
            yield attempt.tail.encode()[-new:].decode("utf-8", "replace")


@dataclass(frozen=True)
class _Seen:
    """What one look of somebody who follows has shown."""

    goes_on: bool = True
    """Whether anything may still be printed: an open trial, or a budget that is not spent."""
    since: datetime | None = None
    """What was kept after this, by the database's clock, is looked at next; None: everything is."""
    sizes: Mapping[int, int] = field(default_factory=dict)
    """Bytes that attempts had printed, those at least whose logs were kept after this."""
    changed: Sequence[AttemptText] = ()
    """Those of them that had printed more than when they were seen before."""


def _look(connection: Connection, database: Database, study: str, number: int | None, last: _Seen) -> _Seen:
    asked = {"s": read_study(connection, study, database).study_id, "n": number}
    if number is not None:
        query = "SELECT bool_or(outcome IS NULL) FROM hpo.trials WHERE study_id = :s AND number = :n"
    else:
        query = (
            f"SELECT count(*) FILTER (WHERE t.outcome IN {SQL_FINISHED}) < s.budget"
            " FROM hpo.studies s LEFT JOIN hpo.trials t USING (study_id) WHERE s.study_id = :s GROUP BY s.budget"
        )
    # Asked before reading, so that what was printed last is not missed.
    goes_on, now = connection.execute(text(f"SELECT ({query}), clock_timestamp()"), asked).one()
    if goes_on is None:
        raise _unknown(study, number)
    # The tail, which may be long, only of what has grown.
    rows = connection.execute(
        text(
            f"SELECT {_ABOUT}, CASE WHEN l.bytes > coalesce(k.bytes, 0) THEN l.tail END AS tail, l.bytes AS size"
            " FROM hpo.attempt_logs l JOIN hpo.attempts a USING (attempt_id) JOIN hpo.trials t USING (token)"
            " LEFT JOIN unnest(CAST(:ids AS bigint[]), CAST(:sizes AS bigint[])) AS k (attempt_id, bytes)"
            " USING (attempt_id)"
            " WHERE t.study_id = :s AND (CAST(:n AS integer) IS NULL OR t.number = :n)"
            " AND (CAST(:since AS timestamptz) IS NULL OR l.updated_at > :since)"
            " ORDER BY attempt_id"
        ),
        {**asked, "since": last.since, "ids": list(last.sizes), "sizes": list(last.sizes.values())},
    ).all()
    changed = [AttemptText(*row) for row in rows if row.tail is not None]
    return _Seen(goes_on, now - LATE, {row.attempt_id: row.size for row in rows}, changed)


def _unknown(study: str, number: int | None) -> UnknownTrialError:
    return UnknownTrialError(f"study {study!r} has no trial {number}: hpo trials --study {study} lists them")
