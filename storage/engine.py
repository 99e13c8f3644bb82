"""Opens the database: the embedded PostgreSQL of a home, or the server that a URL names."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from sqlalchemy import Connection as Connection  # also for modules that only pass a connection on
from sqlalchemy import Engine, create_engine, event, text
from sqlalchemy.engine import URL, ExceptionContext
from sqlalchemy.exc import SQLAlchemyError

from hpo.errors import StorageUnreachableError, StorageUrlError
from storage.connection import prepared
from storage.connection.autocommit import autocommitting
from storage.connection.pooler import (
    refuse_transaction_pooling,
    unsuitable_pooler,
    works_only_without_transactions,
)
from storage.connection.retry import (
    MISSING_RIGHTS,
    READ_ONLY,
    Retry,
    is_hopeless,
    is_refused_by_pooler,
    is_transient,
    short_reason,
    sqlstate,
    will_answer,
)
from storage.connection.url import (
    CONNECT_SECONDS,
    EXAMPLE,
    REMEDY,
    STATEMENT_SECONDS,
    engine_options,
    full_url,
    parse_url,
    shown_url,
    target,
    without_secrets,
)
from storage.connection.watchdog import ConnectionWatchdog
from storage.embedded.paths import disabled
from storage.migrate import LOCK_SECONDS, missing_rights, optuna_storage
from storage.migrate import migrate as migrate_schema

if TYPE_CHECKING:
    from optuna.storages import BaseStorage

    from storage.embedded.server import EmbeddedServer

T = TypeVar("T")

OLDEST_MAJOR = 14

_FACTS = text(
    "SELECT current_setting('server_version_num')::int, current_setting('server_encoding'), pg_backend_pid(),"
    " current_setting('transaction_read_only')::bool"
)

ANSWER_SECONDS = 0.5
"""Seconds for which a command that does not train tries to reach a server: a user waits for its answer."""

STARTUP_SECONDS = 10.0
"""Seconds that a server has to start: next to a command that trains, or once it answers that it is starting."""

SILENT_SECONDS = STATEMENT_SECONDS + 15.0
"""Seconds until a connection counts as dead: the server itself ends a statement earlier."""


class Database:
    """An open database: our engine, Optuna's storage on the same server, and the retry around both."""

    def __init__(self, url: URL, server: EmbeddedServer | None = None) -> None:
        self._url = url
        self._server = server
        self.engine: Engine = create_engine(url, **engine_options(url))
        self._connections = ConnectionWatchdog()
        self._connections.follow(self.engine)
        prepared.follow(self.engine)
        event.listen(self.engine, "handle_error", self._report_missing_rights)
        self.read_only = False
        """Whether the server allowed no changes when it was opened. Later it may be read-only during a failover."""

    def __repr__(self) -> str:
        return f"Database({self.shown!r})"

    @property
    def url(self) -> str:
        """URL with its password, for Optuna; never print it."""
        return full_url(self._url)

    @property
    def shown(self) -> str:
        """The URL without its password."""
        return shown_url(self._url)

    @property
    def embedded(self) -> bool:
        return self._server is not None

    @cached_property
    def optuna(self) -> BaseStorage:
        """Optuna's own storage on this database, cached, with a small pool of its own."""
        from optuna.storages import get_storage

        plain = optuna_storage(self._url, create=False)
        self._connections.follow(plain.engine)
        prepared.follow(plain.engine)
        event.listen(plain.engine, "handle_error", self._report_missing_rights)
        return get_storage(plain)

    def watch(self, seconds: float = SILENT_SECONDS) -> None:
        """Count a server as unreachable if it does not answer within so many seconds."""
        self._connections.watch(seconds)

    def without_statement_timeout(self) -> AbstractContextManager[None]:
        """Return a context in which statements have no time limit."""
        return self._connections.allowing(math.inf)

    def transaction(self, work: Callable[[Connection], T], retry: Retry | None = None) -> T:
        """Run `work` in a transaction and commit; retry after transient errors, so `work` must be idempotent.

        A commit whose answer was lost may have happened: `work` reads back before it writes.
        """

        def once() -> T:
            with self.engine.begin() as connection:
                return work(connection)

        return self.retried(once, retry)

    def statement(self, work: Callable[[Connection], T], retry: Retry | None = None) -> T:
        """Run `work`, a single statement, without a transaction, which would cost two round trips; retry it."""

        def once() -> T:
            with autocommitting(self.engine) as connection:
                return work(connection)

        return self.retried(once, retry)

    def retried(self, call: Callable[[], T], retry: Retry | None = None) -> T:
        """Run `call`, retry after transient errors, and restart an embedded server."""

        def once() -> T:
            try:
                return call()
            except Exception as error:
                if self._server is not None and is_transient(error):
                    self._server.ensure_running()
                if sqlstate(error) == READ_ONLY:
                    if self.read_only:
                        raise self._read_only_server(error) from error
                    # The next connection may lead to the server that took over.
                    for engine in self._engines():
                        engine.dispose()
                raise

        return (retry or Retry())(once)

    def close(self) -> None:
        """Close all connections, and stop the embedded server if nobody else uses it."""
        if "optuna" in self.__dict__:
            self.optuna.remove_session()
        for engine in self._engines():
            engine.dispose()
        self._connections.close()
        if self._server is not None:
            self._server.close()

    def _report_missing_rights(self, context: ExceptionContext) -> None:
        if sqlstate(context.original_exception) == MISSING_RIGHTS:
            raise missing_rights(self._url, context.original_exception) from context.original_exception

    def _read_only_server(self, error: BaseException) -> StorageUrlError:
        return StorageUrlError(
            f"the database at {target(self._url)} is read-only ({short_reason(error)}): it is a standby or an endpoint"
            " for readers, so name the primary server in --storage or HPO_STORAGE"
        )

    def _engines(self) -> list[Engine]:
        """Return our engine, and Optuna's once it is in use."""
        backend = getattr(self.__dict__.get("optuna"), "_backend", None)
        return [self.engine, *([backend.engine] if backend is not None else [])]

    def __enter__(self) -> Database:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_database(
    url: str | None,
    home: Path,
    *,
    wait_seconds: float | None = None,
    migrate: bool = True,
    on_wait: Callable[[str], None] = lambda _: None,
) -> Database:
    """Open the database that `url` names, or the embedded one of `home`, and bring its tables up to date.

    A server that cannot be reached is tried again for `wait_seconds`, by default ANSWER_SECONDS; one that is embedded,
    starting or shutting down for STARTUP_SECONDS at least. `on_wait` is called once, with the reason, before the wait.

    Raises StorageUrlError, StorageUnreachableError, EmbeddedServerError or SchemaTooNewError.
    """
    if url is None:
        if disabled():
            raise StorageUrlError(
                "no database given, and the embedded PostgreSQL is disabled (HPO_EMBEDDED=off, as in"
                f" the container image): set HPO_STORAGE or give --storage, e.g. {EXAMPLE}"
            )
        from storage.embedded.server import EmbeddedServer

        server = EmbeddedServer.start(home)
        database = Database(parse_url(server.url), server)
    else:
        database = Database(parse_url(url))
    seconds = ANSWER_SECONDS if wait_seconds is None else wait_seconds
    try:
        database.watch(CONNECT_SECONDS + max(seconds, STARTUP_SECONDS))
        _wait_until_it_answers(database, seconds, on_wait)
        if migrate:
            database.watch(SILENT_SECONDS + LOCK_SECONDS)
            database.retried(lambda: migrate_schema(database.engine))
        database.watch()
    except BaseException:
        database.close()
        raise
    return database


def _wait_until_it_answers(database: Database, seconds: float, on_wait: Callable[[str], None]) -> None:
    began_at, waiting = time.monotonic(), False
    while True:
        try:
            with database.engine.connect() as connection:
                version, encoding, pid, database.read_only = connection.execute(_FACTS).one()
                pooled = connection.connection.dbapi_connection.info.backend_pid != pid  # type: ignore[union-attr]
            break
        except SQLAlchemyError as error:
            problem = _problem(database, error)
            if "closed" in short_reason(error) and works_only_without_transactions(database.engine):
                raise unsuitable_pooler(
                    database.engine.url, "statement mode, which allows no transactions"
                ) from None
            starts = database.embedded or will_answer(error)
            patience = max(seconds, STARTUP_SECONDS) if starts else seconds
            left = began_at + patience - time.monotonic()
            if not is_transient(error) or left <= 0:
                # Not `from error`: SQLAlchemy's text may contain the password.
                raise problem from None
            if not waiting:
                on_wait(
                    f"the database at {target(database.engine.url)} does not answer ({_reason(database, error)})"
                )
            waiting = True
        time.sleep(min(0.25, left))
    if pooled:
        refuse_transaction_pooling(database.engine)
    if encoding != "UTF8":
        raise StorageUrlError(
            f"{database.shown} stores text as {encoding}, which cannot hold every name and message: create a database "
            "with createdb --encoding=UTF8 --template=template0 NAME, and name it in --storage or HPO_STORAGE"
        )
    if version < OLDEST_MAJOR * 10_000:
        raise StorageUrlError(
            f"{database.shown} is PostgreSQL {version // 10_000}, but {OLDEST_MAJOR} or newer is required: "
            f"upgrade the server, or {REMEDY}"
        )


def server_version(connection: Connection) -> str:
    """Return the version of the server, e.g. `18.1`."""
    return str(connection.scalar(text("SHOW server_version"))).split()[0]


def _problem(database: Database, error: SQLAlchemyError) -> StorageUnreachableError:
    url, reason = database.engine.url, _reason(database, error)
    if is_refused_by_pooler(error):
        return StorageUnreachableError(
            f"the pooler at {target(url)}, such as PgBouncer, refused the connection ({reason}): use its session mode"
            " (pool_mode = session), add the parameter to its ignore_startup_parameters, or connect to PostgreSQL"
        )
    remedy = (
        "check the user, the password and the database's name in --storage or HPO_STORAGE"
        if is_hopeless(error)
        else "start the server, correct --storage or HPO_STORAGE, or leave both out for the embedded one"
    )
    return StorageUnreachableError(f"the database at {target(url)} does not answer ({reason}): {remedy}")


def _reason(database: Database, error: SQLAlchemyError) -> str:
    return without_secrets(short_reason(error), database.engine.url)
