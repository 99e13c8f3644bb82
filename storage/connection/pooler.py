"""Poolers such as PgBouncer, of which only the session mode keeps the settings that a connection has."""

from __future__ import annotations

from contextlib import closing, suppress

import psycopg2
from sqlalchemy import Engine, text
from sqlalchemy.engine import URL

from hpo.errors import StorageUrlError
from storage.connection.url import engine_options, target


def refuse_transaction_pooling(engine: Engine) -> None:
    """Raise StorageUrlError if a pooler gives the session of one connection to another between transactions."""
    pid = text("SELECT pg_backend_pid()")
    for _ in range(3):
        with engine.connect() as first, engine.connect() as second:
            before = first.execute(pid).scalar_one()
            first.rollback()
            # Within its transaction, the second connection keeps the server process that it gets.
            other = second.execute(pid).scalar_one()
            if other == before or first.execute(pid).scalar_one() != before:
                raise unsuitable_pooler(engine.url, "transaction mode, which loses the settings of a session")


def works_only_without_transactions(engine: Engine) -> bool:
    """Whether a pooler that has just closed a connection in a transaction answers outside of one."""
    _, arguments = engine.dialect.create_connect_args(engine.url)
    with (
        suppress(psycopg2.Error),
        closing(
            psycopg2.connect(**{**engine_options(engine.url)["connect_args"], **arguments})
        ) as connection,
    ):
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_backend_pid()")
            return bool(cursor.fetchone()[0] != connection.info.backend_pid)
    return False


def unsuitable_pooler(url: URL, mode: str) -> StorageUrlError:
    return StorageUrlError(
        f"the pooler at {target(url)} works in {mode}: set pool_mode = session for this database,"
        " or connect to PostgreSQL itself"
    )
