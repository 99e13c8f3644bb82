"""Files that users name are replaced completely or not at all; links, devices and pipes keep their kind."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from hpo.files.atomic import output_file


def write(path: Path, text: str = "new") -> None:
    with output_file(path) as partial:
        partial.write_text(text)


def test_link_is_followed_and_the_mode_kept(tmp_path: Path) -> None:
    target, link = tmp_path / "there" / "target", tmp_path / "link"
    target.parent.mkdir()
    target.write_text("old")
    target.chmod(0o600)
    link.symlink_to(target)
    write(link)
    assert link.is_symlink()
    assert (target.read_text(), target.stat().st_mode & 0o777) == ("new", 0o600)
    assert list(target.parent.iterdir()) == [target]


def test_dangling_link_creates_its_target(tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "target")
    write(link)
    assert link.is_symlink()
    assert (tmp_path / "target").read_text() == "new"


def test_failed_write_keeps_the_target_of_a_link(tmp_path: Path) -> None:
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_text("old")
    link.symlink_to(target)
    with pytest.raises(UnicodeEncodeError):
        write(link, "half \ud800")
    assert target.read_text() == "old"
    assert sorted(tmp_path.iterdir()) == [link, target]


def test_circle_of_links_is_refused(tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(link)
    with pytest.raises(OSError, match="symbolic links"):
        write(link)
    assert link.is_symlink()


def test_device_is_written_into() -> None:
    with pytest.raises(OSError, match="No space left"):
        write(Path("/dev/full"))
    assert Path("/dev/full").is_char_device()
    write(Path("/dev/null"))
    assert Path("/dev/null").is_char_device()


def test_pipe_is_written_into(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=write, args=(pipe,))
    writer.start()
    assert pipe.read_text() == "new"
    writer.join()
    assert pipe.is_fifo()


@pytest.mark.parametrize("links", [1, 2])
def test_link_of_another_user_is_not_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: int
) -> None:
    target, link, second = tmp_path / "target", tmp_path / "link", tmp_path / "second"
    target.write_text("old")
    link.symlink_to(target)
    second.symlink_to("link")
    me = os.geteuid()
    if me == 0:
        os.chown(link, 4711, -1, follow_symlinks=False)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: me + 1)
    with pytest.raises(PermissionError, match="belongs to another user"):
        write((link, second)[links - 1])
    assert target.read_text() == "old"
