"""Connections on which each statement commits itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, Engine


@contextmanager
def autocommitting(engine: Engine) -> Iterator[Connection]:
    """Yield a connection without a transaction around its statements, which would cost two round trips.

    Several statements in one text are sent together and committed together; each sees what was committed before it.
    """
    with engine.connect() as connection:
        # Not SQLAlchemy's isolation level AUTOCOMMIT: its end sets the level of the session, in a statement of its own.
        driver: Any = connection.connection.dbapi_connection
        driver.autocommit = True
        try:
            yield connection
        finally:
            if not driver.closed:
                driver.autocommit = False
