"""Which errors are waited for, how long, and how the wait is woken."""

from __future__ import annotations

import threading
from collections.abc import Callable

import psycopg2
import pytest
from optuna.exceptions import StorageInternalError
from psycopg2 import errorcodes, errors
from sqlalchemy import exc as sa

from hpo.errors import DiskFullError, StorageUnreachableError
from storage.connection import retry
from storage.connection.retry import (
    INTERRUPTED_SECONDS,
    Retry,
    is_hopeless,
    is_of_database,
    is_transient,
    short_reason,
)


def coded(code: str, words: str = "the server's words") -> psycopg2.Error:
    """Error with a code that only the server can set in psycopg2."""
    return type("Coded", (errors.lookup(code),), {"pgcode": code})(words)


def refused(
    words: str = 'connection to server at "h", port 5432 failed: Connection refused\n\tHint',
) -> sa.DBAPIError:
    return wrapped(psycopg2.OperationalError(words))


def wrapped(orig: psycopg2.Error) -> sa.DBAPIError:
    known = {psycopg2.OperationalError: sa.OperationalError, psycopg2.InterfaceError: sa.InterfaceError}
    kind = next((to for base, to in known.items() if isinstance(orig, base)), sa.DBAPIError)
    return kind("SELECT 'a statement'", {"a": "parameter"}, orig)


def by_optuna(cause: BaseException) -> StorageInternalError:
    error = StorageInternalError("An exception is raised during the commit.")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    "error",
    [
        refused(),
        by_optuna(refused()),
        by_optuna(sa.PendingRollbackError("This Session's transaction has been rolled back")),
        wrapped(psycopg2.InterfaceError("connection already closed")),
        sa.TimeoutError("QueuePool limit"),
        sa.DBAPIError("s", {}, psycopg2.DatabaseError("lost"), connection_invalidated=True),
        *(
            wrapped(coded(code))
            for code in (
                errorcodes.SERIALIZATION_FAILURE,
                errorcodes.DEADLOCK_DETECTED,
                errorcodes.ADMIN_SHUTDOWN,
                errorcodes.CRASH_SHUTDOWN,
                errorcodes.CANNOT_CONNECT_NOW,
                errorcodes.TOO_MANY_CONNECTIONS,
                errorcodes.QUERY_CANCELED,
                errorcodes.IDLE_IN_TRANSACTION_SESSION_TIMEOUT,
            )
        ),
        coded(errorcodes.DEADLOCK_DETECTED),
    ],
)
def test_transient_errors_are_recognized(error: BaseException) -> None:
    assert is_transient(error)


@pytest.mark.parametrize(
    "error",
    [
        ValueError("a bug"),
        by_optuna(ValueError("a bug")),
        wrapped(coded(errorcodes.UNDEFINED_TABLE)),
        wrapped(coded(errorcodes.UNIQUE_VIOLATION)),
        wrapped(coded(errorcodes.DISK_FULL)),
        wrapped(coded("57P04")),
        refused('FATAL:  password authentication failed for user "ann"'),
        refused('FATAL:  database "hpo" does not exist'),
    ],
)
def test_permanent_errors_are_not_transient(error: BaseException) -> None:
    assert not is_transient(error)


def test_reasons_are_short_and_contain_no_statement() -> None:
    assert short_reason(refused()) == "Connection refused"
    wrong = refused(
        'connection to server at "h" failed: FATAL:  password authentication failed for user "ann"\n'
    )
    assert short_reason(wrong) == 'password authentication failed for user "ann"'
    assert is_hopeless(wrong)
    assert not is_hopeless(refused())


class Clock:
    """A clock that only waiting moves."""

    def __init__(self) -> None:
        self.now = 0.0
        self.waits: list[float] = []

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.now += seconds

    def uniform(self, low: float, high: float) -> float:
        assert low == 0
        return high


class FakeEvent(threading.Event):
    """Waiting moves the clock; it is set once the clock reaches `at`."""

    def __init__(self, clock: Clock, at: float = float("inf")) -> None:
        super().__init__()
        self.clock, self.at = clock, at

    def is_set(self) -> bool:
        return self.clock.now >= self.at

    def wait(self, timeout: float | None = None) -> bool:
        assert timeout is not None
        self.clock.waits.append(timeout)
        self.clock.now = min(self.clock.now + timeout, self.at)
        return self.is_set()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(retry, "time", clock)
    monkeypatch.setattr(retry, "random", clock)
    return clock


def failing(times: int, error: BaseException) -> Callable[[], str]:
    left = iter(range(times))

    def call() -> str:
        if next(left, None) is not None:
            raise error
        return "done"

    return call


def test_delay_doubles_up_to_its_maximum(clock: Clock) -> None:
    reported: list[float] = []
    training_retry = Retry(
        first_delay=1,
        max_delay=5,
        interrupted=FakeEvent(clock),
        on_wait=lambda _, delay: reported.append(delay),
    )
    assert training_retry(failing(5, refused())) == "done"
    assert clock.waits == reported == [1, 2, 4, 5, 5]


def test_time_in_which_this_process_was_stopped_is_no_time_without_an_answer(clock: Clock) -> None:
    """It was stopped during its first call, for longer than it would wait."""
    stopped, fail = iter([100_000.0]), failing(3, refused())

    def call() -> str:
        clock.now += next(stopped, 0.0)
        return fail()

    assert Retry(patience_seconds=3600, interrupted=FakeEvent(clock))(call) == "done"


def test_retry_ends_with_the_last_error_and_its_reason(clock: Clock) -> None:
    impatient = Retry(patience_seconds=8, first_delay=1, interrupted=FakeEvent(clock))
    error = refused()
    with pytest.raises(StorageUnreachableError, match=r"for 8 s \(Connection refused\)") as caught:
        impatient(failing(99, error))
    assert caught.value.__cause__ is error
    assert clock.waits == [1, 2, 4, 1]


def test_retry_without_a_limit_never_ends(clock: Clock) -> None:
    endless = Retry(patience_seconds=None, interrupted=FakeEvent(clock))
    assert endless(failing(5000, refused())) == "done"
    assert clock.now > 20_000


def test_interruption_ends_the_wait(clock: Clock) -> None:
    with pytest.raises(StorageUnreachableError, match="interrupted"):
        Retry(patience_seconds=None, interrupted=FakeEvent(clock, at=3))(failing(99, refused()))
    assert clock.now == 3 + INTERRUPTED_SECONDS


def test_rolled_back_work_is_retried_after_an_interruption(clock: Clock) -> None:
    interrupted = Retry(patience_seconds=None, interrupted=FakeEvent(clock, at=0))
    rolled_back = wrapped(coded(errorcodes.DEADLOCK_DETECTED, "deadlock detected"))
    assert interrupted(failing(3, rolled_back)) == "done"
    assert 0 < clock.now < INTERRUPTED_SECONDS


def test_interruption_wakes_a_real_wait_at_once() -> None:
    stop = threading.Event()
    slow = Retry(patience_seconds=None, first_delay=60, max_delay=60, interrupted=stop)
    threading.Timer(0.05, stop.set).start()
    with pytest.raises(StorageUnreachableError):
        slow(failing(99, refused()))


def test_other_errors_are_raised_at_once(clock: Clock) -> None:
    with pytest.raises(KeyError):
        Retry(interrupted=FakeEvent(clock))(failing(1, KeyError("a bug")))
    assert clock.waits == []


def test_full_disk_is_named(clock: Clock) -> None:
    full = wrapped(coded(errorcodes.DISK_FULL, "could not extend file: No space left on device"))
    with pytest.raises(DiskFullError, match="No space left"):
        Retry(interrupted=FakeEvent(clock))(failing(1, full))


@pytest.mark.parametrize(
    ("error", "of_database"),
    [
        (refused(), True),
        (wrapped(coded(errorcodes.UNDEFINED_TABLE)), True),
        (wrapped(coded(errorcodes.UNIQUE_VIOLATION)), True),
        (by_optuna(refused()), True),
        (by_optuna(KeyError("k")), True),
        (sa.InvalidRequestError("no transaction"), True),
        (wrapped(coded(errorcodes.UNTRANSLATABLE_CHARACTER)), False),
        (by_optuna(wrapped(coded(errorcodes.NUMERIC_VALUE_OUT_OF_RANGE))), False),
        (ValueError("A string literal cannot contain NUL (0x00) characters."), False),
        (OverflowError(), False),
    ],
)
def test_value_that_the_database_refuses_is_not_its_failure(error: Exception, of_database: bool) -> None:
    assert is_of_database(error) is of_database


def test_server_that_stays_read_only_is_named(clock: Clock) -> None:
    impatient = Retry(patience_seconds=2, first_delay=1, interrupted=FakeEvent(clock))
    standby = wrapped(
        coded(errorcodes.READ_ONLY_SQL_TRANSACTION, "cannot execute INSERT in a read-only transaction")
    )
    with pytest.raises(
        StorageUnreachableError, match=r"was read-only for 2 s \(cannot execute INSERT .*primary"
    ):
        impatient(failing(99, standby))
