"""Opening a database: errors of an unreachable server, and work that survives restarts."""

from __future__ import annotations

import os
import re
import signal
import socket
import threading
import time
import traceback
from pathlib import Path

import pytest
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import ProgrammingError

from hpo.errors import StorageUnreachableError, StorageUrlError
from storage import opening
from storage.connection.retry import Retry
from storage.embedded.server import EmbeddedServer
from storage.engine import Database
from storage.opening import open_database
from tests.integration.storage.conftest import Waits

NOWHERE = Path("unused")


def test_sessions_use_utc_and_limits(database: Database) -> None:
    with database.engine.connect() as connection:
        shown = {
            name: connection.execute(text(f"SHOW {name}")).scalar_one()
            for name in ("timezone", "statement_timeout", "application_name")
        }
    assert shown == {"timezone": "UTC", "statement_timeout": "30s", "application_name": "hpo"}
    assert not database.embedded


def test_transactions_see_commits_they_have_waited_for_whatever_the_server_sets(database: Database) -> None:
    with database.engine.begin() as connection:
        name = connection.execute(text("SELECT current_database()")).scalar_one()
        connection.execute(text(f'ALTER DATABASE "{name}" SET default_transaction_isolation = serializable'))
    database.engine.dispose()
    for pool in (database.engine, database.optuna._backend.engine):  # type: ignore[attr-defined]
        with pool.begin() as connection:
            assert connection.execute(text("SHOW transaction_isolation")).scalar_one() == "read committed"


def test_optuna_storage_uses_the_same_database(database: Database) -> None:
    import optuna

    study = optuna.create_study(study_name="pets", storage=database.optuna)
    study.tell(study.ask(), 1.0)
    count = database.transaction(lambda c: c.execute(text("SELECT count(*) FROM public.trials")).scalar_one())
    assert count == 1
    assert database.optuna is database.optuna


def test_transaction_commits_or_leaves_nothing(database: Database) -> None:
    database.transaction(lambda c: c.execute(text("CREATE TABLE t (n int)")))

    def fail(connection: Connection) -> None:
        connection.execute(text("INSERT INTO t VALUES (1)"))
        raise KeyError("a bug")

    with pytest.raises(KeyError):
        database.transaction(fail)
    with pytest.raises(ProgrammingError):
        database.transaction(lambda c: c.execute(text("SELECT * FROM nowhere")))
    assert database.transaction(lambda c: c.execute(text("SELECT count(*) FROM t")).scalar_one()) == 0


def test_connection_lost_in_a_transaction_is_retried(database: Database) -> None:
    waits: list[float] = []
    pids: list[int] = []

    def work(connection: Connection) -> int:
        pids.append(connection.execute(text("SELECT pg_backend_pid()")).scalar_one())
        if len(pids) == 1:
            with database.engine.connect() as other:
                other.execute(text("SELECT pg_terminate_backend(:pid)"), {"pid": pids[0]})
        return connection.execute(text("SELECT 7")).scalar_one()

    retry = Retry(first_delay=0.01, on_wait=lambda _, delay: waits.append(delay))
    assert database.transaction(work, retry) == 7
    assert len(pids) == 2
    assert len(waits) == 1


def test_embedded_server_killed_in_a_transaction_is_restarted(open_folder: Path) -> None:
    with open_database(None, open_folder / "home") as database:
        assert database.embedded
        assert Path(str(open_folder)).name in database.shown
        calls: list[int] = []

        def work(connection: Connection) -> int:
            calls.append(1)
            if len(calls) == 1:
                pid_file = open_folder / "home" / "postgres" / "postmaster.pid"
                os.kill(int(pid_file.read_text().split()[0]), signal.SIGKILL)
            connection.execute(text("SELECT pg_sleep(0.3)"))
            return connection.execute(text("SELECT 7")).scalar_one()

        assert database.transaction(work) == 7
        assert len(calls) == 2


def test_unreachable_server_is_reported_after_the_wait(waits: Waits) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        url = f"postgresql://ann:secret@127.0.0.1:{port}/hpo"
        with pytest.raises(StorageUnreachableError) as caught:
            open_database(url, NOWHERE, wait_seconds=60.0)
    assert waits.seconds == pytest.approx(60.0)
    message = str(caught.value)
    assert f"127.0.0.1:{port}" in message
    assert "Connection refused" in message
    assert "\n" not in message
    assert "secret" not in "".join(traceback.format_exception(caught.value))


def test_command_that_does_not_train_answers_soon(waits: Waits) -> None:
    reasons: list[str] = []
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        with pytest.raises(StorageUnreachableError, match="Connection refused"):
            open_database(f"postgresql://ann:secret@127.0.0.1:{port}/hpo", NOWHERE, on_wait=reasons.append)
    assert waits.seconds == pytest.approx(0.5)
    assert [
        reason for reason in reasons if "Connection refused" in reason and "secret" not in reason
    ] == reasons
    assert len(reasons) == 1


def test_server_that_is_starting_is_waited_for(waits: Waits) -> None:
    """It answers each client with this error until it has replayed its log."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        answering = threading.Thread(target=_refuse_while_starting, args=(server,))
        answering.start()
        port = server.getsockname()[1]
        try:
            with pytest.raises(
                StorageUnreachableError, match=r"does not answer \(the database system is starting up"
            ):
                open_database(f"postgresql://ann@127.0.0.1:{port}/hpo?sslmode=disable", NOWHERE)
        finally:
            server.shutdown(socket.SHUT_RDWR)
            answering.join()
    assert waits.seconds == pytest.approx(opening.STARTUP_SECONDS)


def _refuse_while_starting(server: socket.socket) -> None:
    fields = b"SFATAL\0C57P03\0Mthe database system is starting up\0\0"
    while True:
        try:
            client, _ = server.accept()
        except OSError:
            return
        with client:
            client.recv(1024)
            client.sendall(b"E" + (len(fields) + 4).to_bytes(4, "big") + fields)


def test_server_that_starts_within_the_wait_is_used(open_folder: Path) -> None:
    server = EmbeddedServer(open_folder / "home", root_base=open_folder / "root")
    url = f"postgresql://postgres@/postgres?host={open_folder}/home/postgres&port=5432"
    starting = threading.Timer(0.3, server.ensure_running)
    starting.start()
    try:
        open_database(url, NOWHERE, wait_seconds=opening.STARTUP_SECONDS, migrate=False).close()
    finally:
        starting.join()
        server.close()


def test_missing_database_is_reported_at_once(storage_url: str, waits: Waits) -> None:
    with pytest.raises(StorageUnreachableError, match=r'database "nowhere" does not exist.*database\'s name'):
        open_database(re.sub("test_[0-9a-f]+", "nowhere", storage_url), NOWHERE)
    assert waits.seconds == 0


def test_wrong_password_is_reported_at_once_and_never_shown(
    open_folder: Path, caplog: pytest.LogCaptureFixture, waits: Waits
) -> None:
    with EmbeddedServer.start(open_folder / "home", root_base=open_folder / "root") as server:
        rules = server.place.data / "pg_hba.conf"
        with open_database(server.url, NOWHERE, migrate=False) as database:
            database.transaction(lambda c: c.execute(text("ALTER USER postgres PASSWORD 'right one'")))
            rules.write_text("local all all scram-sha-256\n")
            database.transaction(lambda c: c.execute(text("SELECT pg_reload_conf()")))
        right = server.url.replace("postgres@", "postgres:right%20one@")
        for _ in range(50):
            try:
                open_database(server.url, NOWHERE, migrate=False).close()
            except StorageUnreachableError:
                break
            time.sleep(0.05)
        mistaken = right.replace("right", "m1staken")
        waits.seconds = 0.0
        with pytest.raises(StorageUnreachableError, match="password authentication failed") as caught:
            open_database(mistaken, NOWHERE)
        assert waits.seconds == 0
        assert "m1staken" not in "".join(traceback.format_exception(caught.value))
        with open_database(right, NOWHERE) as database:
            assert database.optuna.get_all_studies() == []
            seen = [repr(database), database.shown, str(database.engine.url)]
        assert not [words for words in seen if "right" in words]
        assert "right" not in caplog.text


def test_old_server_is_refused(storage_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "OLDEST_MAJOR", 99)
    with pytest.raises(StorageUrlError, match="99 or newer"):
        open_database(storage_url, NOWHERE)


def test_database_of_another_encoding_is_refused(postgres_admin: Engine) -> None:
    with postgres_admin.connect() as connection:
        connection.execute(
            text("CREATE DATABASE latin1 TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C' STRATEGY FILE_COPY")
        )
        try:
            url = postgres_admin.url.set(database="latin1").render_as_string(hide_password=False)
            with pytest.raises(StorageUrlError, match=r"stores text as LATIN1.*createdb --encoding=UTF8"):
                open_database(url, NOWHERE)
        finally:
            connection.execute(text("DROP DATABASE latin1 WITH (FORCE)"))


def test_missing_rights_are_reported_by_both_engines(storage_url: str, postgres_admin: Engine) -> None:
    with postgres_admin.connect() as connection:
        connection.execute(text("CREATE ROLE reader LOGIN"))
    try:
        guest = storage_url.replace("postgres@", "reader@")
        with pytest.raises(StorageUrlError, match="permission denied for schema hpo"):
            open_database(guest, NOWHERE)
        with open_database(guest, NOWHERE, migrate=False) as database:
            with pytest.raises(StorageUrlError, match=r"lacks rights \(permission denied.*OWNER TO"):
                database.transaction(lambda c: c.execute(text("SELECT * FROM hpo.studies")))
            with pytest.raises(StorageUrlError, match="lacks rights"):
                database.optuna.get_all_studies()
    finally:
        with postgres_admin.connect() as connection:
            connection.execute(text("DROP ROLE reader"))


def test_connection_lost_while_it_was_idle_is_replaced_unnoticed(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    pid = text("SELECT pg_backend_pid()")
    lost = database.statement(lambda c: c.execute(pid).scalar_one())
    with database.optuna._backend.engine.connect() as other:  # type: ignore[attr-defined]
        other.execute(text("SELECT pg_terminate_backend(:pid)"), {"pid": lost})
    monkeypatch.setattr("storage.connection.url.UNCHECKED_SECONDS", -1.0)
    waits: list[float] = []
    retry = Retry(first_delay=0.01, on_wait=lambda _, delay: waits.append(delay))
    assert database.statement(lambda c: c.execute(pid).scalar_one(), retry) != lost
    assert not waits


def test_statement_commits_itself_and_leaves_transactions_as_they_were(database: Database) -> None:
    database.statement(lambda c: c.execute(text("CREATE TABLE t (n int)")))
    with pytest.raises(ProgrammingError):
        database.statement(lambda c: c.execute(text("SELECT * FROM nowhere")))

    def fail(connection: Connection) -> None:
        connection.execute(text("INSERT INTO t VALUES (1)"))
        raise KeyError("a bug")

    with pytest.raises(KeyError):
        database.transaction(fail)
    assert database.statement(lambda c: c.execute(text("SELECT count(*) FROM t")).scalar_one()) == 0
