"""Classify database errors, and retry after transient ones."""

from __future__ import annotations

import math
import random
import re
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import psycopg2
from sqlalchemy import exc as sa

from hpo.errors import DiskFullError, StorageUnreachableError

T = TypeVar("T")

READ_ONLY = "25006"
"""SQLSTATE of a write on a standby: another server is, or becomes, the primary."""
MISSING_RIGHTS = "42501"
_DISK_FULL = "53100"
_DATABASE_DROPPED = "57P04"
_GONE = {_DATABASE_DROPPED, "3D000", "3F000"}
"""SQLSTATEs of a database or schema that does not exist."""
_NO_TABLE = "42P01"
# Classes: connection lost, rolled back (serialization, deadlock), no resources, operator's action.
_TRANSIENT_CLASSES = ("08", "40", "53", "57")
# Lock not available; idle in transaction for too long; a transaction that took too long; a standby.
_TRANSIENT_CODES = {"55P03", "25P03", "25P04", READ_ONLY}
_STALE_CODES = {"26000", "42P05"}
"""SQLSTATEs of a prepared statement that does not exist, or exists already."""
_STALE_PLAN = "cached plan must not change result type"
_DATA_CLASS = "22"
# Errors while connecting have a text but no code; these are permanent.
_PERMANENT_TEXTS = (
    "authentication failed",
    "no password supplied",
    "no pg_hba.conf entry",
    "does not exist",
    "no such database",
    "no such user",
    "is not permitted to log in",
    "permission denied",
    "does not support SSL",
    "requires SSL",
    "invalid ",
    "certificate",
)
_STARTING_TEXTS = (
    "is starting up",
    "is not yet accepting connections",
    "is in recovery mode",
    "is shutting down",
)
_POOLER_TEXT = re.compile(
    r"unsupported startup parameter|command-line options|statement pooling mode", re.IGNORECASE
)
"""Refusals of PgBouncer and of poolers like it; the second is of Amazon's RDS Proxy."""

INTERRUPTED_SECONDS = 1.0
"""Seconds that retries continue after an interruption: enough for a rolled-back transaction, not for an outage."""


LONGEST_TRY_SECONDS = 300.0
"""Longest part of a call that counts as time without an answer. The watchdog of connections ends a call much earlier,
unless this process was stopped, with its container or its machine."""


def is_transient(error: BaseException) -> bool:
    """Whether the same call may succeed later: the server restarts, is unreachable, or rolled us back."""
    if isinstance(error, sa.TimeoutError):
        return True  # no connection of the pool came free
    if is_refused_by_pooler(error):
        return False
    if any(isinstance(link, sa.PendingRollbackError) for link in _causes(error)):
        # Optuna reused a session after a query in it had failed. The first error is lost, and the next call
        # has a new session.
        return True
    if isinstance(error, sa.DBAPIError) and error.connection_invalidated:
        return sqlstate(error) not in {_DISK_FULL, _DATABASE_DROPPED}
    cause = _driver_error(error)
    if cause is None:
        return False
    code = cause.pgcode
    if code is not None:
        hopeless = code in {_DISK_FULL, _DATABASE_DROPPED}
        passes = code.startswith(_TRANSIENT_CLASSES) or code in _TRANSIENT_CODES or is_stale(cause)
        return passes and not hopeless
    if isinstance(cause, psycopg2.OperationalError):
        return not is_hopeless(cause)
    return isinstance(cause, psycopg2.InterfaceError)


def is_stale(error: BaseException) -> bool:
    """Whether a prepared statement is gone, or its columns have changed."""
    return sqlstate(error) in _STALE_CODES or _STALE_PLAN in str(error)


def is_hopeless(error: BaseException) -> bool:
    """Whether connecting failed for a permanent reason, such as a wrong password."""
    message = str(_driver_error(error) or error)
    return any(permanent in message for permanent in _PERMANENT_TEXTS) or is_refused_by_pooler(error)


def will_answer(error: BaseException) -> bool:
    """Whether a server refused a connection because it is starting or shutting down."""
    message = str(_driver_error(error) or error)
    return any(starting in message for starting in _STARTING_TEXTS)


def is_gone(error: BaseException) -> bool:
    """Whether a database that was open cannot be connected to any more, or has lost its tables."""
    cause = _driver_error(error)
    if cause is None:
        return False
    if cause.pgcode == _NO_TABLE:
        return 'relation "hpo.' in str(cause)
    if cause.pgcode is not None:
        return cause.pgcode in _GONE
    return isinstance(cause, psycopg2.OperationalError) and is_hopeless(cause)


def is_refused_by_pooler(error: BaseException) -> bool:
    """Whether a pooler in front of the server refuses how we connect."""
    return _POOLER_TEXT.search(str(_driver_error(error) or error)) is not None


def is_of_database(error: BaseException) -> bool:
    """Whether the database failed, or the way to it; False for a value that it refused, and for errors of others."""
    cause = _driver_error(error)
    if isinstance(cause, psycopg2.DataError) or (sqlstate(error) or "").startswith(_DATA_CLASS):
        return False
    return cause is not None or any(
        isinstance(link, sa.SQLAlchemyError) or type(link).__name__ == "StorageInternalError"
        for link in _causes(error)
    )


def sqlstate(error: BaseException) -> str | None:
    """Return PostgreSQL's five-letter code of `error`, if it has one."""
    cause = _driver_error(error)
    return cause.pgcode if cause is not None else None


def short_reason(error: BaseException) -> str:
    """Return the server's or the driver's reason, without statement, parameters and hints."""
    message = str(_driver_error(error) or error).strip() or type(error).__name__
    line = message.splitlines()[0]
    return line.rpartition("failed: ")[2].removeprefix("FATAL:").removeprefix("ERROR:").strip()


def _driver_error(error: BaseException) -> psycopg2.Error | None:
    for link in _causes(error):
        if isinstance(link, psycopg2.Error):
            return link
    return None


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield `error`, the error that SQLAlchemy wrapped, and the cause of Optuna's StorageInternalError."""
    link: BaseException | None = error
    while link is not None:
        yield link
        if isinstance(link, sa.DBAPIError) and link.orig is not None:
            link = link.orig
        # By name: this module must not import Optuna.
        elif type(link).__name__ == "StorageInternalError":
            link = link.__cause__
        else:
            link = None


@dataclass(frozen=True)
class Retry:
    """Retries after transient errors, with exponential backoff and full jitter.

    A commit whose answer was lost may have happened, so the call must be idempotent, or read back before
    it writes.
    """

    patience_seconds: float | None = 30.0  # None: no limit
    first_delay: float = 0.1
    max_delay: float = 5.0
    interrupted: threading.Event | None = None  # once set, retries end after INTERRUPTED_SECONDS
    on_wait: Callable[[BaseException, float], None] | None = None  # gets the error and the delay

    def __call__(self, call: Callable[[], T]) -> T:
        """Return the result of `call`.

        Raises:
            StorageUnreachableError: `patience_seconds` have passed, or `interrupted` was set.
            DiskFullError: the server's disk is full; raised at once, as any other permanent error.
        """
        began_at = tried_at = time.monotonic()
        until = math.inf if self.patience_seconds is None else began_at + self.patience_seconds
        interrupted = False
        attempts = 0
        while True:
            try:
                return call()
            except Exception as error:
                if sqlstate(error) == _DISK_FULL:
                    raise DiskFullError(
                        f"the database server's disk is full ({short_reason(error)}): free some space on it"
                    ) from error
                if is_gone(error):
                    raise StorageUnreachableError(
                        f"the database can no longer be used ({short_reason(error)}): check that it and its tables"
                        " exist and that its user may connect, then run the same command again"
                    ) from error
                if not is_transient(error):
                    raise
                now = time.monotonic()
                until += max(0.0, now - tried_at - LONGEST_TRY_SECONDS)
                if not interrupted and self.interrupted is not None and self.interrupted.is_set():
                    interrupted, until = True, min(until, now + INTERRUPTED_SECONDS)
                if now >= until:
                    how_long = (
                        "and the wait was interrupted" if interrupted else f"for {now - began_at:.0f} s"
                    )
                    raise _unreachable(error, how_long) from error
                limit = min(self.max_delay, self.first_delay * 2.0 ** min(attempts, 30))
                delay = min(random.uniform(0, limit), until - now)
                if self.on_wait is not None:
                    self.on_wait(error, delay)
                if interrupted or self.interrupted is None:
                    time.sleep(delay)
                else:
                    self.interrupted.wait(delay)
                attempts += 1
                tried_at = time.monotonic()


def _unreachable(error: BaseException, how_long: str) -> StorageUnreachableError:
    if sqlstate(error) == READ_ONLY:
        return StorageUnreachableError(
            f"the database was read-only {how_long} ({short_reason(error)}): name the primary server in --storage or "
            "HPO_STORAGE, then restart; no committed data is lost"
        )
    return StorageUnreachableError(
        f"the database did not answer {how_long} ({short_reason(error)}): check that the server runs, "
        "then restart; no committed data is lost"
    )
