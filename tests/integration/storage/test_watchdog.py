"""A server that stops responding on open connections."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, event, make_url, text

from hpo.errors import StorageUnreachableError
from storage import opening
from storage.embedded.server import EmbeddedServer
from storage.engine import Database
from storage.opening import open_database
from tests.acceptance.faults.proxy import Proxy


@pytest.fixture
def proxy(postgres_server: EmbeddedServer) -> Iterator[Proxy]:
    proxy = Proxy(postgres_server.place.socket)
    yield proxy
    proxy.close()


def number(database: Database) -> int:
    return database.transaction(lambda c: int(c.execute(text("SELECT 7")).scalar_one()))


def test_silent_connection_is_replaced(storage_url: str, proxy: Proxy) -> None:
    through = f"postgresql://postgres@127.0.0.1:{proxy.port}/{make_url(storage_url).database}"
    with open_database(through, Path("unused")) as database:
        database.watch(1.0)
        assert number(database) == 7
        assert database.optuna.get_all_studies() == []
        proxy.silence()
        began = time.monotonic()
        assert number(database) == 7
        assert time.monotonic() - began > 1.0, "the connection was not silent"
        assert database.retried(database.optuna.get_all_studies) == []


def test_long_statement_may_run_until_the_limit(database: Database) -> None:
    database.watch(30.0)
    slow = "SELECT 7 FROM pg_sleep(1.2)"
    assert database.transaction(lambda c: c.execute(text(slow)).scalar_one()) == 7
    database.watch(0.2)
    with database.without_statement_timeout():
        assert database.transaction(lambda c: c.execute(text(slow)).scalar_one()) == 7


def test_many_quick_statements_are_not_silence(database: Database) -> None:
    """The connection waits at every check, as during the deletion of a large study."""
    database.watch(0.4)
    until = time.monotonic() + 1.5
    with database.engine.begin() as connection:
        while time.monotonic() < until:
            connection.execute(text("SELECT pg_sleep(0.05)"))


def test_server_silent_from_the_start_is_unreachable(
    storage_url: str, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server accepts the connection and never responds, like one that waits for its disk."""
    monkeypatch.setattr(opening, "CONNECT_SECONDS", 0.5)
    through = f"postgresql://postgres@127.0.0.1:{proxy.port}/{make_url(storage_url).database}"

    def fall_silent(*_: object) -> None:
        proxy.silence()

    event.listen(Engine, "connect", fall_silent)
    try:
        with pytest.raises(StorageUnreachableError, match="does not answer"):
            open_database(through, Path("unused"), wait_seconds=0.5)
    finally:
        event.remove(Engine, "connect", fall_silent)
