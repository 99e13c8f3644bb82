"""Tests of a process use one database after another, as long as they change nothing but rows."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import Engine

from storage.engine import Database
from tests.kept_database import KeptDatabase


@pytest.fixture(scope="session")
def kept_databases(postgres_admin: Engine) -> Iterator[list[KeptDatabase]]:  # noqa: ARG001 - ends after them
    """The databases that no test uses at the moment."""
    kept: list[KeptDatabase] = []
    yield kept
    for one in kept:
        one.drop()


@pytest.fixture
def kept_database(
    kept_databases: list[KeptDatabase], postgres_admin: Engine, migrated_template: str
) -> Iterator[KeptDatabase]:
    one = kept_databases.pop() if kept_databases else KeptDatabase(postgres_admin, migrated_template)
    one.lend()
    yield one
    if one.empty():
        kept_databases.append(one)
    else:
        one.drop()


@pytest.fixture
def storage_url(kept_database: KeptDatabase) -> str:
    """The URL of a database with all tables and no rows."""
    return kept_database.url


@pytest.fixture
def database(kept_database: KeptDatabase) -> Database:
    return kept_database.opened
