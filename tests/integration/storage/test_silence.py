"""A server that says nothing more on connections that stay open."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import make_url, text

from storage.embedded import EmbeddedServer
from storage.engine import Database, open_database
from tests.acceptance.proxy import Proxy


@pytest.fixture
def proxy(postgres_server: EmbeddedServer) -> Iterator[Proxy]:
    proxy = Proxy(postgres_server.place.socket)
    yield proxy
    proxy.close()


def number(database: Database) -> int:
    return database.transaction(lambda c: int(c.execute(text("SELECT 7")).scalar_one()))


def test_a_silent_connection_is_given_up_for_a_new_one(storage_url: str, proxy: Proxy) -> None:
    through = f"postgresql://postgres@127.0.0.1:{proxy.port}/{make_url(storage_url).database}"
    with open_database(through, Path("unused")) as database, database.unsilenced(1.0):
        assert number(database) == 7
        assert database.optuna.get_all_studies() == []
        proxy.silence()
        began = time.monotonic()
        assert number(database) == 7
        assert time.monotonic() - began > 1.0, "the connection was not silent"
        assert database.retried(database.optuna.get_all_studies) == []


def test_a_long_statement_is_left_alone_until_then(database: Database) -> None:
    with database.unsilenced(30.0):
        slow = "SELECT 7 FROM pg_sleep(1.2)"
        assert database.transaction(lambda c: c.execute(text(slow)).scalar_one()) == 7
