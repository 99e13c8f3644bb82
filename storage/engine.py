"""An open database: its connections, transactions, and what is tried again after an error."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import cached_property
from typing import TYPE_CHECKING, TypeVar

from sqlalchemy import Connection as Connection  # also for modules that only pass a connection on
from sqlalchemy import Engine, create_engine, event, text
from sqlalchemy.engine import URL, ExceptionContext

from hpo.errors import StorageUrlError
from storage.connection import prepared
from storage.connection.autocommit import autocommitting
from storage.connection.retry import (
    MISSING_RIGHTS,
    READ_ONLY,
    Retry,
    is_transient,
    short_reason,
    sqlstate,
)
from storage.connection.url import (
    STATEMENT_SECONDS,
    engine_options,
    full_url,
    shown_url,
    target,
)
from storage.connection.watchdog import ConnectionWatchdog
from storage.migrate import missing_rights, optuna_storage

if TYPE_CHECKING:
    from optuna.storages import BaseStorage

    from storage.embedded.server import EmbeddedServer

T = TypeVar("T")

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


def server_version(connection: Connection) -> str:
    """Return the version of the server, e.g. `18.1`."""
    return str(connection.scalar(text("SHOW server_version"))).split()[0]
