"""Images that cannot be read: refused by name, or left out where that was asked for."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from hpo.errors import DataDamagedError
from objectives.data import stamps
from tests.unit.objectives.images.provision import Spy, left, load, provide, refused


def break_files(photos: Path) -> None:
    (photos / "disc" / "000.jpg").write_bytes(b"")
    (photos / "disc" / "001.png").write_bytes((photos / "disc" / "001.png").read_bytes()[:-1500])
    (photos / "cross" / "002.webp").write_bytes(b"no image at all")


@pytest.mark.parametrize("remembered", [True, False])
def test_unreadable_files_are_refused_or_left_out(photos, tmp_path, monkeypatch, remembered):
    if remembered:
        monkeypatch.setattr(stamps, "SETTLED_SECONDS", -60.0)
    break_files(photos)
    for _ in range(2):
        message = refused(DataDamagedError, photos, tmp_path / "cache")
        assert "cannot be read: cross/002.webp (it is not an image), disc/000.jpg (it is empty)" in message
        assert "--skip-unreadable" in message
        assert left(tmp_path / "cache") == []
    found = provide(photos, tmp_path / "cache", skip_unreadable=True)
    assert sorted(found.unreadable) == ["cross/002.webp", "disc/000.jpg", "disc/001.png"]
    assert found.about.images == 27
    assert load(found, tmp_path / "cache").class_count == 3


def test_truncated_file_alone_is_refused_by_name(photos, tmp_path):
    (photos / "disc" / "001.png").write_bytes((photos / "disc" / "001.png").read_bytes()[:-1500])
    message = refused(DataDamagedError, photos, tmp_path / "cache")
    assert message.startswith("1 image of ")
    assert "disc/001.png" in message


def test_class_without_readable_images_is_refused(photos, tmp_path):
    for path in (photos / "disc").iterdir():
        path.write_bytes(b"")
    shutil.rmtree(photos / "cross")
    assert "single class stripes" in refused(
        DataDamagedError, photos, tmp_path / "cache", skip_unreadable=True
    )


def test_class_that_loses_all_its_images_is_refused(photos, tmp_path):
    for path in (photos / "disc").iterdir():
        path.write_bytes(b"")
    assert "no image of disc that can be read" in refused(
        DataDamagedError, photos, tmp_path / "cache", skip_unreadable=True
    )


@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_file_without_an_end_is_unreadable(photos, tmp_path, kind):
    place = photos / "disc" / "000.png"
    if kind == "pipe":
        os.mkfifo(place)
    else:
        place.symlink_to("/dev/zero")
    message = refused(DataDamagedError, photos, tmp_path / "cache")
    assert "disc/000.png (it is not a regular file)" in message


def test_path_that_no_file_can_have_is_unreadable(photos, tmp_path):
    rows = [f"{path.relative_to(photos)},{path.parent.name}" for path in sorted(photos.glob("*/*.*"))]
    (photos / "images.csv").write_text("\n".join(["path,label", *rows, "a\0b.jpg,disc"]))
    assert r"a\x00b.jpg (embedded null byte)" in refused(
        DataDamagedError, photos / "images.csv", tmp_path / "cache"
    )


def test_file_of_a_table_that_is_absent_is_unreadable(photos, tmp_path):
    rows = [f"{path.relative_to(photos)},{path.parent.name}" for path in sorted(photos.glob("*/*.*"))]
    (photos / "images.csv").write_text("\n".join(["path,label", *rows, "gone.jpg,disc"]))
    message = refused(DataDamagedError, photos / "images.csv", tmp_path / "cache")
    assert "gone.jpg (No such file or directory)" in message
    found = provide(photos / "images.csv", tmp_path / "cache", skip_unreadable=True)
    assert found.about.images == 30


def test_file_changed_while_it_is_read_is_refused(photos, tmp_path):
    spy = Spy(lambda: (photos / "disc" / "000.jpg").write_bytes(b"new"))
    assert "was changed while images were read" in refused(DataDamagedError, photos, tmp_path / "cache", spy)
    assert left(tmp_path / "cache") == []
