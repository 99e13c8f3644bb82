"""`hpo logs`: output of attempts, read from the database, whichever host they ran on."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial

from sqlalchemy import Connection, text

from hpo.errors import UsageError
from hpo.outcomes import COUNTED
from hpo.study.catalog import find_study, read_study
from hpo.study.monitoring.framework_noise import without_noise
from storage.engine import Database

FOLLOW_SECONDS = 1.0

COMMIT_DELAY = timedelta(minutes=1)
"""Longest time between writing and committing a log: a poll in between finds it later."""

LOG_SECONDS = 5.0
"""Longest time in which an agent stores the end of an ended attempt's log, which it does after the outcome."""

_ATTEMPT_COLUMNS = "a.attempt_id, t.number, a.host, a.slot, a.device, a.outcome, a.error"


_STORING = (
    "SELECT 1 FROM hpo.attempts a JOIN hpo.trials t USING (reservation_id) JOIN hpo.agents g USING (agent_id)"
    " WHERE t.study_id = :s AND (CAST(:n AS integer) IS NULL OR t.number = :n) AND g.ended_at IS NULL"
    " AND a.ended_at BETWEEN clock_timestamp() - :seconds * interval '1 second' AND clock_timestamp()"
)
"""Attempts whose agents may not have stored their whole logs."""


class UnknownTrialError(UsageError):
    """The study has no trial with that number."""


@dataclass(frozen=True, kw_only=True)
class AttemptText:
    """End of the output of one attempt."""

    attempt_id: int
    number: int | None
    host: str
    slot: int
    device: str
    outcome: str | None
    """Outcome of the attempt; None while it runs."""
    error: str | None
    tail: str
    size: int
    """Bytes printed in total; the tail may be shorter."""

    @property
    def output(self) -> str:
        """The tail, without lines of a framework's start."""
        return without_noise(self.tail, self.device)

    @property
    def heading(self) -> str:
        """One line that names trial, attempt, host and outcome."""
        cut = " (only its end was kept)" if self.size > len(self.tail.encode()) else ""
        outcome = self.outcome or "running"
        why = f": {self.error}" if self.error else ""
        return (
            f"== trial {self.number}, attempt {self.attempt_id} on {self.host}"
            f" slot {self.slot} ({self.device}), {outcome}{why}{cut}"
        )


def read_logs(database: Database, study: str, number: int | None) -> list[AttemptText]:
    """Return the logs of the attempts of one trial, or of all trials, oldest first.

    Raises:
        UnknownStudyError: no study has that name.
        UnknownTrialError: no trial has that number.
    """
    study_id = find_study(database, study).study_id

    def read(c: Connection) -> list[AttemptText]:
        rows = c.execute(
            text(
                f"SELECT {_ATTEMPT_COLUMNS}, coalesce(l.tail, '') AS tail, coalesce(l.bytes, 0) AS size"
                " FROM hpo.attempts a JOIN hpo.trials t USING (reservation_id)"
                " LEFT JOIN hpo.attempt_logs l USING (attempt_id)"
                " WHERE t.study_id = :s AND (CAST(:n AS integer) IS NULL OR t.number = :n)"
                " ORDER BY a.attempt_id"
            ),
            {"s": study_id, "n": number},
        )
        return [AttemptText(**row._mapping) for row in rows]

    attempts = database.transaction(read)
    if number is not None and not attempts:
        raise _unknown_trial(study, number)
    return attempts


def follow_logs(database: Database, study: str, number: int | None) -> Iterator[str]:
    """Yield the output of attempts so far, then new output as it arrives.

    Ends when the requested trial is decided, or when the budget of the study is spent, and the logs are stored.

    Raises:
        UnknownStudyError: the study does not exist or was deleted.
        UnknownTrialError: no trial has that number.
    """
    shown: dict[int, int] = {}
    current: int | None = None
    poll = _Poll()
    while poll.open:
        if poll.since is not None:
            time.sleep(FOLLOW_SECONDS)
        poll = database.transaction(partial(_poll, database=database, study=study, number=number, last=poll))
        for attempt in poll.changed:
            new = attempt.size - shown.get(attempt.attempt_id, 0)
            if new <= 0:
                continue
            shown[attempt.attempt_id] = attempt.size
            if current != attempt.attempt_id:
                yield attempt.heading + "\n"
                current = attempt.attempt_id
            yield without_noise(attempt.tail.encode()[-new:].decode("utf-8", "replace"), attempt.device)


@dataclass(frozen=True)
class _Poll:
    """Result of one poll while following logs."""

    open: bool = True
    """Whether more output may follow: the trial is open, the budget is not spent, or a log is not stored yet."""
    since: datetime | None = None
    """Database time after which logs are read in the next poll; None reads all."""
    sizes: Mapping[int, int] = field(default_factory=dict)
    """Bytes printed per attempt, at least of those whose logs changed after `since`."""
    changed: Sequence[AttemptText] = ()
    """Attempts that have printed more since the previous poll."""


def _poll(connection: Connection, database: Database, study: str, number: int | None, last: _Poll) -> _Poll:
    parameters = {
        "s": read_study(connection, study, database).study_id,
        "n": number,
        "counted": list(COUNTED),
        "seconds": LOG_SECONDS,
    }
    if number is not None:
        query = "SELECT bool_or(outcome IS NULL) FROM hpo.trials WHERE study_id = :s AND number = :n"
    else:
        query = (
            "SELECT count(*) FILTER (WHERE t.outcome = ANY(:counted)) < s.budget"
            " FROM hpo.studies s LEFT JOIN hpo.trials t USING (study_id) WHERE s.study_id = :s GROUP BY s.budget"
        )
    # Checked before reading, so that the last output is not missed.
    is_open, storing, now = connection.execute(
        text(f"SELECT ({query}), EXISTS ({_STORING}), clock_timestamp()"), parameters
    ).one()
    if is_open is None:
        raise _unknown_trial(study, number)
    # The tail may be long, so it is read only of logs that have grown.
    rows = connection.execute(
        text(
            f"SELECT {_ATTEMPT_COLUMNS},"
            " CASE WHEN l.bytes > coalesce(k.bytes, 0) THEN l.tail END AS tail, l.bytes AS size"
            " FROM hpo.attempt_logs l JOIN hpo.attempts a USING (attempt_id) JOIN hpo.trials t USING (reservation_id)"
            " LEFT JOIN unnest(CAST(:ids AS bigint[]), CAST(:sizes AS bigint[])) AS k (attempt_id, bytes)"
            " USING (attempt_id)"
            " WHERE t.study_id = :s AND (CAST(:n AS integer) IS NULL OR t.number = :n)"
            " AND (CAST(:since AS timestamptz) IS NULL OR l.updated_at > :since)"
            " ORDER BY attempt_id"
        ),
        {**parameters, "since": last.since, "ids": list(last.sizes), "sizes": list(last.sizes.values())},
    ).all()
    changed = [AttemptText(**row._mapping) for row in rows if row.tail is not None]
    return _Poll(is_open or storing, now - COMMIT_DELAY, {row.attempt_id: row.size for row in rows}, changed)


def _unknown_trial(study: str, number: int | None) -> UnknownTrialError:
    return UnknownTrialError(f"study {study!r} has no trial {number}: hpo trials --study {study} lists them")
