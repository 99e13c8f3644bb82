"""A database that the tests of a process use one after another: each finds it as if it were new.

Making one, opening it and dropping it takes longer than most tests.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg2
from sqlalchemy import Engine, make_url

from storage.engine import Database
from storage.opening import open_database
from tests.databases import new_database

MOST_ROWS = 1000
"""Rows of a test after which its database is dropped: the space of deleted rows would change plans of later tests."""

EVENTS = ("begin", "commit", "before_cursor_execute", "after_cursor_execute")
"""Events of engines to which tests listen."""

TABLES = """
SELECT format('%I.%I', table_schema, table_name) FROM information_schema.tables
WHERE table_schema IN ('public', 'hpo') AND table_type = 'BASE TABLE' ORDER BY 1
"""
SEQUENCES = """
SELECT format('setval(%L, %s, false)', format('%I.%I', schemaname, sequencename), start_value) FROM pg_sequences
"""
DEFINED = {
    **{"pg_class": "oid", "pg_attribute": "attrelid", "pg_constraint": "oid", "pg_index": "indexrelid"},
    **{"pg_trigger": "oid", "pg_proc": "oid", "pg_namespace": "oid", "pg_type": "oid", "pg_attrdef": "oid"},
}
"""Catalogs of what users define, and the column whose value shows that a user has."""

OTHERS = """
FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'
"""
"""Connections to this database but our own."""
END_SECONDS = 1.0
"""Time that the server has to notice that a connection was closed."""
SETTINGS = """
SELECT count(*) FROM pg_db_role_setting JOIN pg_database ON setdatabase = pg_database.oid
WHERE datname = current_database()
"""


class KeptDatabase:
    """A database with all tables, for one test at a time."""

    def __init__(self, admin: Engine, template: str) -> None:
        self._made = new_database(admin, template)
        self.url = next(self._made)
        self._opened: Database | None = None
        self._listeners: dict[str, int] = {}
        self._connection = psycopg2.connect(
            make_url(self.url).set(drivername="postgresql").render_as_string(False)
        )
        self._connection.autocommit = True
        # Foreign keys are not checked when all rows go.
        self._ask("SET session_replication_role = replica")
        filled = {name: self._ask(f"SELECT count(*) FROM {name}") for (name,) in self._rows(TABLES)}
        self._constant = [name for name, rows in filled.items() if rows]
        deleted = [
            f"t{at} AS (DELETE FROM {name} RETURNING 1)" for at, name in enumerate(filled) if not filled[name]
        ]
        counted = " + ".join(f"(SELECT count(*) FROM {one.split()[0]})" for one in deleted)
        self._ask(f"PREPARE empty AS WITH {', '.join(deleted)} SELECT {counted}")
        self._restart = f"SELECT {', '.join(call for (call,) in self._rows(SEQUENCES))}"
        self._state = self._state_now()
        self._threads = 0

    def lend(self) -> None:
        """Note what runs in this process before a test."""
        self._threads = threading.active_count()

    @property
    def opened(self) -> Database:
        """The database, opened once."""
        if self._opened is None:
            self._opened = open_database(self.url, Path("unused"))
            self._listeners = _listeners(self._opened)
            self._threads += 1
        return self._opened

    def empty(self) -> bool:
        """Make it as if it were new; return False if a test has changed more than rows, or left something running."""
        try:
            return self._emptied()
        except psycopg2.Error:
            # The test has ended all connections.
            return False

    def _emptied(self) -> bool:
        intact = self._opened is None or self._forget(self._opened)
        if self._in_use() or threading.active_count() != self._threads or not intact:
            return False
        if self._state_now() != self._state or self._ask(SETTINGS):
            return False
        rows: int = self._ask("EXECUTE empty")
        self._ask(self._restart)
        return rows <= MOST_ROWS

    def _in_use(self) -> bool:
        """Whether somebody else is connected to it, which no test should be that has ended."""
        until = time.monotonic() + END_SECONDS
        while self._ask(f"SELECT count(*) {OTHERS}"):
            if time.monotonic() > until:
                return True
            time.sleep(0.002)
        return False

    def _forget(self, database: Database) -> bool:
        """Close its connections, and forget what it has read; return False if a test still listens to it."""
        if "optuna" in database.__dict__:
            from optuna.storages import get_storage

            database.optuna.remove_session()
            # The trials that it has read are forgotten.
            database.__dict__["optuna"] = get_storage(database.optuna._backend)  # type: ignore[attr-defined]
        intact = all(_listeners(database).get(name) == count for name, count in self._listeners.items())
        for engine in database._engines():
            engine.dispose()
        return intact

    def drop(self) -> None:
        if self._opened is not None:
            self._opened.close()
        self._connection.close()
        next(self._made, None)

    def _state_now(self) -> list[Any]:
        """Return what stands for all definitions, and the rows that a new database has."""
        parts = [
            f"(SELECT count(*) || ' ' || sum(xmin::text::numeric) FROM {catalog} WHERE {column} >= 16384)"
            for catalog, column in DEFINED.items()
        ]
        parts += [f"(SELECT array_agg(t::text ORDER BY t::text) FROM {name} t)" for name in self._constant]
        return list(self._rows(f"SELECT {', '.join(parts)}"))

    def _rows(self, sql: str) -> Iterator[tuple[Any, ...]]:
        with closing(self._connection.cursor()) as cursor:
            cursor.execute(sql)
            yield from cursor.fetchall() if cursor.description else ()

    def _ask(self, sql: str) -> Any:
        return next(self._rows(sql), (None,))[0]


def _listeners(database: Database) -> dict[str, int]:
    """Return the number of listeners to each event of our engine."""
    return {name: len(getattr(database.engine.dispatch, name)) for name in EVENTS}
