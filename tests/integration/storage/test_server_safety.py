"""The embedded PostgreSQL is reached by its own user and host only."""

from __future__ import annotations

import os
import signal
import socket
import tempfile
from dataclasses import replace
from pathlib import Path

import psycopg2
import pytest

from hpo.errors import EmbeddedServerError
from storage.embedded import paths, sockets
from storage.embedded.holder import Holder
from storage.embedded.server import EmbeddedServer


@pytest.fixture
def home(open_folder: Path) -> Path:
    return open_folder / "home"


def start(home: Path) -> EmbeddedServer:
    return EmbeddedServer.start(home, root_base=home.parent / "root")


def listen(folder: Path) -> socket.socket:
    """Listen in `folder` as another user's PostgreSQL would."""
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(folder / paths.SOCKET))
    server.listen()
    return server


def test_server_without_the_lock_of_a_living_one_is_not_used(home: Path) -> None:
    deep = home / ("d" * 90)
    deep.mkdir(parents=True)
    with tempfile.TemporaryDirectory(dir="/tmp") as name, listen(Path(name)) as impostor:
        impostor.settimeout(0)
        Holder.here(Path(name)).write(paths.Place(deep / "postgres", deep).note)
        with start(deep) as server, psycopg2.connect(server.url.replace("+psycopg2", "")) as connection:
            assert connection.server_version >= 180_000
        connection.close()
        if os.geteuid() == 0:
            # The folder is root's own, not that of the server's user.
            assert server._users is None
            with pytest.raises(BlockingIOError):
                impostor.accept()


def test_libpq_refuses_the_process_of_another_user(home: Path) -> None:
    with start(home) as server:
        name = paths.server_user_name()
        assert name is not None
        url = server.url.replace("+psycopg2", "")
        with pytest.raises(psycopg2.OperationalError, match="requirepeer"):
            psycopg2.connect(url.replace(f"requirepeer={name}", f"requirepeer=not-{name}"))


@pytest.mark.parametrize("name", ["$(touch executed)", "`touch executed`", "\";touch executed;'", "a b, ü"])
def test_home_with_shell_syntax_in_its_name_executes_nothing(
    home: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    home.mkdir()
    home.chmod(0o777)
    monkeypatch.chdir(home)
    strange = home / name
    with start(strange) as server:
        assert server.place.data == strange / "postgres"
    assert not list(home.parent.rglob("executed"))
    assert not Path("/executed").exists()


def test_home_of_another_host_is_refused_and_left_as_it_is(home: Path) -> None:
    with start(home) as server:
        pid = server.place.pid_file.read_text()
        here = Holder.read(server.place.note)
        assert here is not None
        replace(here, host="elsewhere", boot="another").write(server.place.note)
        with pytest.raises(EmbeddedServerError, match=r"in use by the host elsewhere.*HPO_STORAGE") as caught:
            start(home)
        assert "\n" not in str(caught.value)
        assert server.place.pid_file.read_text() == pid
        here.write(server.place.note)
        os.kill(int(pid.split()[0]), signal.SIGKILL)
        while sockets.answers(server.place.socket):
            pass
        # The file of a killed server of this host, before a reboot.
        replace(here, boot="before").write(server.place.note)
        with start(home) as again:
            assert again.place.pid_file.read_text() != pid
            assert Holder.read(again.place.note) == here
        server.close()
    assert not paths.place(home, home.parent / "root").note.exists()


def test_new_home_is_private(home: Path) -> None:
    paths.make_home(home)
    assert home.stat().st_mode & 0o777 == (0o710 if os.geteuid() == 0 else 0o700)
    assert [path.name for path in home.parent.iterdir()] == ["home"]


def test_home_that_others_may_write_is_refused(home: Path) -> None:
    home.mkdir()
    home.chmod(0o777)
    with pytest.raises(EmbeddedServerError, match=r"may be written by every user.*chmod go-w"):
        start(home)
    assert not list(home.iterdir())
