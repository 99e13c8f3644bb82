"""Which notes of a home's host allow another start, and which folders of sockets are safe."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from hpo.errors import EmbeddedServerError
from storage.embedded import paths, sockets
from storage.embedded.holder import STARTING_SECONDS, Holder


@pytest.fixture
def here(tmp_path: Path) -> Holder:
    return replace(Holder.here(tmp_path), machine="m", boot="b")


@pytest.fixture(autouse=True)
def this_host(here: Holder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Holder, "here", lambda folder: replace(here, sockets=str(folder)))


def make(folder: Path, holder: Holder, *, running: bool, age: float = 0.0) -> tuple[Path, Path]:
    pid_file, note = folder / "postmaster.pid", folder / "postgres.host"
    (folder / "postgres.lock").touch()
    if running:
        pid_file.touch()
    holder.write(note)
    written_at = note.stat().st_mtime - age
    os.utime(note, (written_at, written_at))
    return pid_file, note


@pytest.mark.parametrize(
    ("changes", "is_here", "has_ended"),
    [
        ({}, True, None),
        ({"host": "renamed"}, True, None),
        ({"boot": "before"}, False, True),
        ({"boot": "before", "host": "elsewhere"}, False, False),
        ({"boot": "before", "machine": "cloned"}, False, False),
        ({"processes": "pid:[1]"}, False, False),
        ({"processes": "pid:[1]", "host": "container"}, False, False),
    ],
)
def test_host_with_a_running_server(
    tmp_path: Path, here: Holder, changes: dict[str, str], is_here: bool, has_ended: bool | None
) -> None:
    holder = replace(here, **changes)
    pid_file, note = make(tmp_path, holder, running=True)
    assert Holder.read(note) == holder
    assert holder.is_here is is_here
    if has_ended is not None:
        assert holder.has_ended(pid_file, note) is has_ended


@pytest.mark.parametrize(("age", "has_ended"), [(0.0, False), (STARTING_SECONDS + 10.0, True)])
def test_note_without_a_server_expires(tmp_path: Path, here: Holder, age: float, has_ended: bool) -> None:
    holder = replace(here, host="elsewhere", boot="another")
    pid_file, note = make(tmp_path, holder, running=False, age=age)
    assert holder.has_ended(pid_file, note) is has_ended


def test_killed_container_of_this_host_is_recognized_by_its_socket(tmp_path: Path, here: Holder) -> None:
    holder = replace(here, processes="pid:[1]")
    pid_file, note = make(tmp_path, holder, running=True)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / paths.SOCKET))
        server.listen()
        assert not holder.has_ended(pid_file, note)
    assert holder.has_ended(pid_file, note)


@pytest.mark.parametrize("text", ["", "{}", "[1]", "\0"])
def test_damaged_note_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "note").write_text(text)
    assert Holder.read(tmp_path / "note") is None


def make_open(folder: Path) -> None:
    folder.mkdir()
    # Whatever the umask.
    folder.chmod(0o750)


def make_link(folder: Path) -> None:
    (folder.parent / "target").mkdir(mode=0o700)
    folder.symlink_to(folder.parent / "target")


@pytest.mark.parametrize(
    ("create", "reason"),
    [
        (lambda folder: folder.mkdir(mode=0o700), None),
        (make_open, "other users may enter it"),
        (make_link, "not a folder"),
        (lambda folder: folder.touch(), "not a folder"),
        (lambda _: None, "No such file"),
    ],
)
def test_folder_of_a_socket(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, create: Callable[[Path], None], reason: str | None
) -> None:
    monkeypatch.setattr(paths, "server_user", os.geteuid)
    folder = tmp_path / "sockets"
    create(folder)
    if reason is None:
        sockets.refuse_foreign(folder)
        monkeypatch.setattr(paths, "server_user", lambda: os.geteuid() + 1)
        reason = "belongs to another user"
    with pytest.raises(EmbeddedServerError, match=reason):
        sockets.refuse_foreign(folder)


@pytest.mark.skipif(not hasattr(socket, "SO_PEERCRED"), reason="peer credentials of a socket (Linux)")
def test_process_of_another_user_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "sockets"
    folder.mkdir(mode=0o700)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(folder / paths.SOCKET))
        server.listen()
        monkeypatch.setattr(paths, "server_user", lambda: os.geteuid() + 1)
        monkeypatch.setattr(sockets, "problem", lambda _: None)
        with pytest.raises(EmbeddedServerError, match="another user's process"):
            sockets.refuse_foreign(folder)
