"""Counts of the work that calls cause in a database, which do not depend on the speed of the machine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, event, text

from storage.engine import Database

_READ = text(
    "SELECT coalesce(sum(seq_tup_read + coalesce(idx_tup_fetch, 0)), 0) FROM pg_stat_xact_user_tables"
    " WHERE schemaname = 'hpo'"
)


@dataclass
class Work:
    """The work of the transactions in a block."""

    statements: int = 0
    fetched: int = 0
    """Rows that the statements returned or changed."""
    read: int = 0
    """Rows of our tables that the server read."""


@contextmanager
def counted(database: Database) -> Iterator[Work]:
    """Count the work of the transactions that begin and end in this block."""
    work, engine = Work(), database.engine

    def count(_: Connection, cursor: Any, statement: str, *_more: object) -> None:
        if "pg_stat_xact_user_tables" not in statement:
            work.statements += 1
            work.fetched += cursor.rowcount

    def subtract(connection: Connection) -> None:
        # The server may still count rows of an earlier transaction here.
        work.read -= int(connection.execute(_READ).scalar_one())

    def add(connection: Connection) -> None:
        work.read += int(connection.execute(_READ).scalar_one())

    listeners = {"after_cursor_execute": count, "begin": subtract, "commit": add}
    for name, listener in listeners.items():
        event.listen(engine, name, listener)
    try:
        yield work
    finally:
        for name, listener in listeners.items():
            event.remove(engine, name, listener)
