"""PgBouncer in front of the server: its session mode works, its transaction mode is refused by name."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import make_url, text

from hpo.errors import StorageUrlError
from storage.connection.pooler import refuse_transaction_pooling
from storage.embedded import paths
from storage.opening import open_database
from tests.integration.storage.conftest import Waits

NOWHERE = Path("unused")
PROGRAM = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")


@contextmanager
def pgbouncer(folder: Path, storage_url: str, mode: str) -> Iterator[str]:
    """A pooler of the database, which only accepts the startup parameters that it does by default."""
    url = make_url(storage_url)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = folder / "pgbouncer.ini"
    settings.write_text(
        f"[databases]\n{url.database} = host={url.query['host']} port={url.query['port']} user=postgres\n"
        f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nauth_type = any\npool_mode = {mode}\n"
        "unix_socket_dir =\n"
    )
    settings.chmod(0o644)
    assert PROGRAM is not None
    with subprocess.Popen(
        [PROGRAM, str(settings)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **paths.runs_as()
    ) as pooler:
        try:
            while pooler.poll() is None:
                with socket.socket() as probe:
                    if probe.connect_ex(("127.0.0.1", port)) == 0:
                        break
                time.sleep(0.02)
            yield f"postgresql://postgres@127.0.0.1:{port}/{url.database}"
        finally:
            pooler.kill()


@pytest.mark.skipif(PROGRAM is None, reason="a real PgBouncer (apt-get install pgbouncer)")
def test_session_mode_works(open_folder: Path, empty_storage_url: str) -> None:
    with (
        pgbouncer(open_folder, empty_storage_url, "session") as url,
        open_database(url, NOWHERE) as database,
    ):
        for bind in (database.engine, database.optuna._backend.engine):  # type: ignore[attr-defined]
            with bind.connect() as connection:
                assert connection.scalar(text("SHOW timezone")) == "UTC"
                assert connection.scalar(text("SHOW statement_timeout")) == "30s"


@pytest.mark.skipif(PROGRAM is None, reason="a real PgBouncer (apt-get install pgbouncer)")
@pytest.mark.parametrize("mode", ["transaction", "statement"])
def test_modes_that_lose_a_session_are_refused_at_once(
    open_folder: Path, storage_url: str, mode: str, waits: Waits
) -> None:
    with (
        pgbouncer(open_folder, storage_url, mode) as url,
        pytest.raises(
            StorageUrlError, match=rf"^the pooler at 127.0.0.1:\d+ works in {mode} mode.*pool_mode = session"
        ),
    ):
        open_database(url, NOWHERE)
    assert waits.seconds == 0


class FakePooler:
    """Connections whose server processes are given by `serve`, which takes a client and a transaction's number."""

    def __init__(self, serve: Callable[[int, int], int]) -> None:
        self._serve = serve
        self._clients = 0
        self.url = make_url("postgresql://h/d")

    def connect(self) -> Any:
        client, self._clients = self._clients, self._clients + 1
        transactions = [0]

        def next_transaction() -> None:
            transactions[0] += 1

        connection = SimpleNamespace(
            execute=lambda _: SimpleNamespace(scalar_one=lambda: self._serve(client % 2, transactions[0])),
            rollback=next_transaction,
        )
        return _Context(connection)


class _Context:
    def __init__(self, value: Any) -> None:
        self._value = value

    def __enter__(self) -> Any:
        return self._value

    def __exit__(self, *_: object) -> None:
        pass


@pytest.mark.parametrize(
    ("serve", "accepted"),
    [
        (lambda client, _: client, True),
        (lambda _client, _transaction: 7, False),
        (lambda client, transaction: client + 2 * transaction, False),
    ],
)
def test_shared_server_processes_are_recognized(serve: Callable[[int, int], int], accepted: bool) -> None:
    pooled: Any = FakePooler(serve)
    if accepted:
        refuse_transaction_pooling(pooled)
    else:
        with pytest.raises(StorageUrlError, match="transaction mode"):
            refuse_transaction_pooling(pooled)
