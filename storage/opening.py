"""Opens the database: the embedded PostgreSQL of a home, or the server that a URL names, once it answers."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from hpo.errors import StorageUnreachableError, StorageUrlError
from storage.connection.pooler import (
    refuse_transaction_pooling,
    unsuitable_pooler,
    works_only_without_transactions,
)
from storage.connection.retry import (
    is_hopeless,
    is_refused_by_pooler,
    is_transient,
    short_reason,
    will_answer,
)
from storage.connection.url import CONNECT_SECONDS, EXAMPLE, REMEDY, parse_url, target, without_secrets
from storage.embedded.paths import disabled
from storage.engine import SILENT_SECONDS, Database
from storage.migrate import LOCK_SECONDS
from storage.migrate import migrate as migrate_schema

OLDEST_MAJOR = 14

_FACTS = text(
    "SELECT current_setting('server_version_num')::int, current_setting('server_encoding'), pg_backend_pid(),"
    " current_setting('transaction_read_only')::bool"
)

ANSWER_SECONDS = 0.5
"""Seconds for which a command that does not train tries to reach a server: a user waits for its answer."""

STARTUP_SECONDS = 10.0
"""Seconds that a server has to start: next to a command that trains, or once it answers that it is starting."""


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
