"""Reads of a study for processes that copy its trials elsewhere, and the lock by which one of them does."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, text
from sqlalchemy.exc import SQLAlchemyError

from hpo.errors import HpoError
from storage.connection.retry import Retry
from storage.engine import Database


def study_row(connection: Connection, study_id: int) -> Row[Any] | None:
    """Return name, uid and spec of a study; None if it was deleted."""
    return connection.execute(
        text("SELECT study_id, name, uid, spec FROM hpo.studies WHERE study_id = :s"), {"s": study_id}
    ).one_or_none()


def has_runs(connection: Connection, study_id: int) -> bool:
    """Whether a trial of the study has an epoch or an outcome."""
    found: bool = connection.execute(
        text(
            "SELECT EXISTS (SELECT 1 FROM hpo.trials WHERE study_id = :s AND number IS NOT NULL"
            " AND (epochs > 0 OR outcome IS NOT NULL))"
        ),
        {"s": study_id},
    ).scalar_one()
    return found


def changed_trials(
    connection: Connection, study_id: int, since: datetime | None, overlap: float
) -> Sequence[Row[Any]]:
    """Return the trials that are open or were decided later than `overlap` seconds before `since`; None: all.

    `host` and `device` are those of the last attempt; times are in seconds since 1970.
    """
    return connection.execute(
        text(
            "SELECT t.reservation_id, t.number, t.params, t.seed, t.outcome, t.value, t.error, t.decided_at,"
            " extract(epoch FROM t.created_at)::float8 AS began, extract(epoch FROM t.decided_at)::float8 AS ended,"
            " a.host, a.device FROM hpo.trials t LEFT JOIN LATERAL (SELECT host, device FROM hpo.attempts"
            "  WHERE reservation_id = t.reservation_id ORDER BY attempt_id DESC LIMIT 1) a ON true"
            " WHERE t.study_id = :s AND t.number IS NOT NULL AND t.params IS NOT NULL AND (t.outcome IS NULL"
            "  OR CAST(:since AS timestamptz) IS NULL"
            "  OR t.decided_at > CAST(:since AS timestamptz) - :overlap * interval '1 second')"
            " ORDER BY t.number"
        ),
        {"s": study_id, "since": since, "overlap": overlap},
    ).all()


def epochs_of_trials(connection: Connection, reservation_ids: Sequence[int]) -> Sequence[Row[Any]]:
    """Return the epochs of trials in order, with the attempt that reported each; `at` is in seconds since 1970."""
    return connection.execute(
        text(
            "SELECT reservation_id, epoch, attempt_id, metrics, extract(epoch FROM created_at)::float8 AS at"
            " FROM hpo.epochs WHERE reservation_id = ANY(:t) ORDER BY reservation_id, epoch"
        ),
        {"t": list(reservation_ids)},
    ).all()


class SessionLock:
    """A lock by name that at most one connection of a database holds; it is free as soon as its process ends."""

    def __init__(self, database: Database, name: str) -> None:
        self._database = database
        self._key = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], signed=True)
        self._connection: Connection | None = None

    def acquire(self, retry: Retry) -> bool:
        """Return whether this process holds the lock now, which it tries to take.

        Raises:
            StorageUnreachableError: the database does not answer, so the lock may be lost.
        """
        try:
            return self._database.retried(self._try, retry)
        except HpoError:
            self.release()
            raise

    def _try(self) -> bool:
        try:
            if self._connection is not None:
                self._connection.execute(text("SELECT 1"))
                return True
            connection = self._database.engine.connect().execution_options(isolation_level="AUTOCOMMIT")
            if connection.execute(text("SELECT pg_try_advisory_lock(:k)"), {"k": self._key}).scalar_one():
                self._connection = connection
                return True
            connection.close()
            return False
        except SQLAlchemyError:
            self.release()
            raise

    def release(self) -> None:
        """Free the lock."""
        connection, self._connection = self._connection, None
        if connection is None:
            return
        try:
            connection.execute(text("SELECT pg_advisory_unlock(:k)"), {"k": self._key})
        except SQLAlchemyError:
            # The lock ends with its session, which must not go back to the pool.
            with suppress(SQLAlchemyError):
                connection.invalidate()
        with suppress(SQLAlchemyError):
            connection.close()
