"""The embedded PostgreSQL: started by the first, shared, stopped by the last, and back after a crash."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg2
import pytest

from hpo.errors import EmbeddedServerError
from storage.embedded import paths
from storage.embedded.server import EmbeddedServer
from storage.embedded.sockets import answers

ROOT = os.geteuid() == 0

USER = """
import sys
from pathlib import Path
from storage.embedded.server import EmbeddedServer
server = EmbeddedServer.start(Path(sys.argv[1]), root_base=Path(sys.argv[2]))
print(server.url, flush=True)
sys.stdin.readline()
server.close()
print("closed", flush=True)
sys.stdin.readline()
"""


@pytest.fixture
def home(open_folder: Path) -> Path:
    return open_folder / "home"


@contextmanager
def another_process(home: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that uses the server until it is sent a line."""
    command = [sys.executable, "-c", USER, str(home), str(home.parent / "root")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline().startswith("postgresql")
            yield process
        finally:
            process.kill()


def start(home: Path) -> EmbeddedServer:
    return EmbeddedServer.start(home, root_base=home.parent / "root")


def ask(server: EmbeddedServer, statement: str) -> object:
    connection = psycopg2.connect(server.url.replace("+psycopg2", ""))
    try:
        with connection, connection.cursor() as cursor:
            cursor.execute(statement)
            return cursor.fetchone()[0] if cursor.description else None  # type: ignore[index]
    finally:
        connection.close()


def postmaster(server: EmbeddedServer) -> int:
    return int((server.place.data / "postmaster.pid").read_text().split()[0])


def modes(path: Path) -> dict[Path, tuple[int, int, int]]:
    """Mode and owner of a path and of everything above it."""
    found = [path, *path.parents]
    return {one: (one.stat().st_mode, one.stat().st_uid, one.stat().st_gid) for one in found}


def test_server_starts_keeps_its_data_and_stops(home: Path) -> None:
    with start(home) as server:
        socket = server.place.socket
        ask(server, "CREATE TABLE kept AS SELECT 7 AS n")
        assert ask(server, "SHOW timezone") == "UTC"
        assert ask(server, "SHOW max_connections") == "200"
        assert ask(server, "SHOW listen_addresses") == ""
        # A session of its own, so that Ctrl-C does not reach it.
        assert os.getsid(postmaster(server)) != os.getsid(0)
        with (home / "postgres.alive").open() as alive, pytest.raises(BlockingIOError):
            fcntl.flock(alive, fcntl.LOCK_EX | fcntl.LOCK_NB)
    assert not answers(socket)
    with (home / "postgres.alive").open() as alive:
        fcntl.flock(alive, fcntl.LOCK_EX | fcntl.LOCK_NB)
    server.close()
    with pytest.raises(EmbeddedServerError, match="closed"):
        server.ensure_running()
    with start(home) as server:
        assert ask(server, "SELECT n FROM kept") == 7


def test_last_of_two_processes_stops_the_server(home: Path) -> None:
    with start(home) as server, another_process(home) as other:
        socket, pid = server.place.socket, postmaster(server)
        server.close()
        assert answers(socket)
        with start(home) as again:
            assert postmaster(again) == pid
        assert answers(socket)
        assert other.stdin is not None
        assert other.stdout is not None
        other.stdin.write("\n")
        other.stdin.flush()
        assert other.stdout.readline() == "closed\n"
        assert not answers(socket)


def test_killed_user_does_not_keep_the_server_running(home: Path) -> None:
    with another_process(home) as other:
        other.send_signal(signal.SIGKILL)
        other.wait()
        with start(home) as server:
            socket = server.place.socket
            assert answers(socket)
        assert not answers(socket)


def test_concurrent_first_starts_create_one_server(home: Path) -> None:
    command = [sys.executable, "-c", USER, str(home), str(home.parent / "root")]
    starting = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(3)
    ]
    try:
        urls = {process.stdout.readline() for process in starting if process.stdout}
        assert len(urls) == 1
        with start(home) as server:
            assert server.url == urls.pop().strip()
    finally:
        for process in starting:
            process.communicate("\n\n", timeout=60)
    assert not answers(home / "postgres" / ".s.PGSQL.5432")


def test_server_restarts_after_its_postmaster_is_killed(home: Path) -> None:
    with start(home) as server:
        ask(server, "CREATE TABLE kept AS SELECT 7 AS n")
        killed = postmaster(server)
        os.kill(killed, signal.SIGKILL)
        while answers(server.place.socket):
            time.sleep(0.01)
        server.ensure_running()
        assert postmaster(server) != killed
        assert ask(server, "SELECT n FROM kept") == 7


def test_server_starts_after_an_interrupted_initdb_and_with_a_stale_pid_file(home: Path) -> None:
    unfinished = home / "postgres.new"
    unfinished.mkdir(parents=True)
    (unfinished / "PG_VERSION").write_text("18\n")
    with start(home) as server:
        assert ask(server, "SELECT 1") == 1
        data = server.place.data
        lines = (data / "postmaster.pid").read_text().splitlines()
    # As after a crash, when another process has the number now.
    stale = data / "postmaster.pid"
    stale.write_text("\n".join([str(os.getpid()), *lines[1:]]) + "\n")
    paths.own(stale)
    with start(home) as server:
        assert ask(server, "SELECT 1") == 1


def test_socket_is_in_a_short_folder_if_the_home_path_is_too_long(home: Path) -> None:
    deep = home / ("d" * 60) / ("e, f%g" * 10)
    with start(deep) as server:
        assert len(str(server.place.socket)) < 100
        assert server.place.sockets.stat().st_mode & 0o777 == 0o700
        assert ask(server, "SELECT 1") == 1
        folder = server.place.sockets
        # A name that another user cannot predict.
        assert folder.name not in (f"hpo-{os.geteuid()}", paths.place(deep, home.parent / "root").data.name)
        os.kill(postmaster(server), signal.SIGKILL)
        while answers(server.place.socket):
            time.sleep(0.01)
        server.ensure_running()
        # Open engines connect to the same folder.
        assert server.place.sockets == folder
    assert not folder.exists()


def test_existing_folders_keep_their_mode(home: Path) -> None:
    """The wheel itself opens up every parent folder when root starts it."""
    private = home / "private"
    private.mkdir(parents=True)
    private.chmod(0o700)
    inner = private / "hpo"
    interesting = (private, Path.home(), Path(sys.prefix), Path(sys.prefix) / "bin")
    before = [modes(path) for path in interesting]
    root_base = home.parent / "root"
    with EmbeddedServer.start(inner, root_base=root_base) as server:
        assert ask(server, "SELECT 1") == 1
        data = server.place.data
        inside = data.is_relative_to(inner)
        # Root's server runs as a user who cannot enter this home; anybody else's runs as themselves.
        assert inside is not ROOT
        assert data.stat().st_mode & 0o777 == 0o700
        assert data.stat().st_uid == (paths.system_user()[0] if ROOT else os.geteuid())
    assert [modes(path) for path in interesting] == before
    # Existing data is found in its place, even if the modes change later.
    private.chmod(0o755)
    assert paths.place(inner, root_base).data == data


def test_programs_unreachable_for_the_server_user_are_copied(
    open_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shipped = paths.programs(open_folder / "root").parent
    wheel = shipped.parent
    private = open_folder / "private"
    private.mkdir(mode=0o700)
    for folder in (shipped, wheel.with_name(f"{wheel.name}.libs")):
        target = private / folder.relative_to(wheel.parent)
        shutil.copytree(folder, target, ignore=shutil.ignore_patterns("include", "*.a"))
    programs = private / (shipped / "bin").relative_to(wheel.parent)
    monkeypatch.setattr(paths, "_shipped", lambda: programs)
    found = paths.programs(open_folder / "root")
    assert found.is_relative_to(open_folder / "root") is ROOT
    assert paths.run(found / "initdb", "--version").stdout.startswith("initdb (PostgreSQL) 18")
    assert private.stat().st_mode & 0o777 == 0o700
    assert paths.programs(open_folder / "root") == found


def test_data_of_another_major_version_is_refused(home: Path) -> None:
    data = home / "postgres"
    data.mkdir(parents=True)
    (data / "PG_VERSION").write_text("16\n")
    with pytest.raises(EmbeddedServerError, match=r"PostgreSQL 16, not 18.*HPO_HOME"):
        start(home)


def test_failed_start_names_the_log_and_the_remedy(home: Path) -> None:
    with start(home) as server:
        settings = server.place.data / "postgresql.conf"
    with settings.open("a") as file:
        file.write("shared_preload_libraries = 'no_such_library'\n")
    with pytest.raises(EmbeddedServerError, match=r"no_such_library") as caught:
        start(home)
    message = str(caught.value)
    assert str(home / "postgres.log") in message
    assert "--storage" in message
    assert "\n" not in message


def test_unusable_home_is_refused(home: Path) -> None:
    home.write_text("a file")
    with pytest.raises(EmbeddedServerError, match="HPO_HOME") as caught:
        start(home)
    assert "\n" not in str(caught.value)
