"""Clocks that a test sets: the database's, and that of each agent and its trainers."""

from __future__ import annotations

import random
from collections.abc import Mapping
from pathlib import Path

from sqlalchemy import create_engine
from sqlalchemy.pool import NullPool

JUMPS = (2.0, 90.0, 3600.0, 10 * 86400.0)
"""Seconds by which a clock is set ahead or back."""

_SETTABLE = """
SET allow_system_table_mods = on;
CREATE SCHEMA clocks;
CREATE TABLE clocks.ahead AS SELECT interval '0' AS seconds;
ALTER FUNCTION pg_catalog.clock_timestamp() RENAME TO unset_clock_timestamp;
CREATE FUNCTION pg_catalog.clock_timestamp() RETURNS timestamptz LANGUAGE sql VOLATILE AS
  'SELECT unset_clock_timestamp() + (SELECT seconds FROM clocks.ahead)';
"""
"""Statements that replace PostgreSQL's clock by one that can be set, before any table refers to it."""


class DatabaseClock:
    """The clock of a database, which must have no tables yet."""

    def __init__(self, url: str) -> None:
        self._engine = create_engine(url, poolclass=NullPool)
        self._execute(_SETTABLE)

    def set_ahead(self, seconds: float) -> None:
        """Set the clock so many seconds ahead of the real one, or back."""
        self._execute(f"UPDATE clocks.ahead SET seconds = interval '{seconds} s'")

    def _execute(self, sql: str) -> None:
        with self._engine.begin() as connection:
            connection.exec_driver_sql(sql)


class HostClock:
    """The wall clock of an agent and the processes that it starts; monotonic clocks cannot be set."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.set_ahead(0.0)

    @property
    def environment(self) -> Mapping[str, object]:
        """Environment variables of the agent."""
        return {"PYTHONPATH": Path(__file__).with_name("wall_clock"), "TEST_CLOCK": self._file}

    def set_ahead(self, seconds: float) -> None:
        """Set the clock so many seconds ahead of the real one, or back."""
        partial = self._file.with_suffix(".partial")
        partial.write_text(str(seconds))
        partial.rename(self._file)


def jump(draws: random.Random) -> float:
    """Return the seconds by which a clock is ahead after it was set; less than 0 if it was set back."""
    return draws.choice((-1.0, 1.0)) * draws.choice(JUMPS)
