"""The cache of decoded images: shared, bounded, and each entry complete or absent."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest

from hpo.errors import DataDamagedError, DiskFullError, FileNotWritableError, UsageError
from objectives.base import DataOptions
from objectives.images import build, entry
from objectives.images.cache import Cache
from objectives.images.provision import mapped, provided
from tests.unit.objectives.images.provision import Spy, left, load, provide, refused


def test_interrupted_build_leaves_nothing(photos, tmp_path):
    def interrupt() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        provide(photos, tmp_path / "cache", Spy(interrupt))
    assert left(tmp_path / "cache") == []
    assert provide(photos, tmp_path / "cache").about.images == 30


KILLED = """
import os, sys
from objectives.base import DataOptions
from objectives.images.cache import Cache
from objectives.images.provision import provided
from pathlib import Path
def watch(stage, done, total):
    if stage == "decoding" and done:
        os.kill(os.getpid(), 9)
with provided(DataOptions(source=sys.argv[1]), Cache(Path(sys.argv[2])), watch):
    pass
"""


def test_killed_build_is_begun_again(photos, tmp_path):
    subprocess.run([sys.executable, "-c", KILLED, photos, tmp_path / "cache"], check=False)
    assert [name for name in left(tmp_path / "cache") if name.endswith(".partial")]
    Cache(tmp_path / "cache").clear_leftovers()
    assert [path.suffix for path in (tmp_path / "cache").iterdir()] == [".lock"] * 2
    found = provide(photos, tmp_path / "cache")
    assert left(tmp_path / "cache") == [found.digest]


WAITING = """
import sys
from objectives.base import DataOptions
from objectives.images.cache import Cache
from objectives.images.provision import provided
from pathlib import Path
stages = []
def watch(stage, done, total):
    if stage not in stages:
        stages.append(stage)
        print(stage, flush=True)
with provided(DataOptions(source=sys.argv[1]), Cache(Path(sys.argv[2])), watch) as found:
    print(found.digest, flush=True)
"""


def test_second_process_waits_for_the_first_and_decodes_nothing(photos, tmp_path):
    other: list[subprocess.Popen] = []

    def start() -> None:
        command = [sys.executable, "-c", WAITING, photos, tmp_path / "cache"]
        other.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        # Until it waits for the lock that this process holds.
        for line in other[0].stdout:
            if line.startswith("waiting"):
                return

    found = provide(photos, tmp_path / "cache", Spy(start))
    assert other[0].communicate()[0].splitlines() == [found.digest]


def test_least_recently_used_is_evicted_but_not_one_in_use(photos, tmp_path):
    folder = tmp_path / "cache"
    first, second = provide(photos, folder, image_size=8), provide(photos, folder, image_size=9)
    for digest, used_at in ((first.digest, 200), (second.digest, 100)):
        os.utime(folder / f"{digest}.lock", (used_at, used_at))
    total = sum(one.bytes for one in Cache(folder).list())
    with provided(DataOptions(source=str(photos), image_size=9), Cache(folder)):
        os.utime(folder / f"{second.digest}.lock", (100, 100))
        third = provide(photos, folder, most=total, image_size=7)
        assert left(folder) == sorted([second.digest, third.digest])
        message = refused(DiskFullError, photos, folder, most=total, image_size=11)
        assert "HPO_CACHE_SIZE" in message
        assert [one.in_use for one in Cache(folder).list() if one.digest == second.digest] == [True]
        assert not Cache(folder).remove(second.digest)
    assert Cache(folder).remove(second.digest)


def test_data_larger_than_the_cache_are_refused(photos, tmp_path):
    message = refused(DiskFullError, photos, tmp_path / "cache", most=1000)
    assert "more than the limit of the cache" in message
    assert left(tmp_path / "cache") == []


@pytest.mark.parametrize("noticed", ["ahead", "while writing"])
def test_full_disk_is_one_line_and_leaves_nothing(photos, tmp_path, monkeypatch, noticed):
    if noticed == "ahead":
        monkeypatch.setattr(shutil, "disk_usage", lambda _: type("Usage", (), {"free": 1000}))
    else:

        def full(*_: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(build.os, "posix_fallocate", full)
    message = refused(DiskFullError, photos, tmp_path / "cache")
    assert "free some space, give a smaller --image-size" in message
    assert left(tmp_path / "cache") == []


def test_no_data_set_is_removed_in_vain(photos, tmp_path, monkeypatch):
    found = provide(photos, tmp_path / "cache")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: type("Usage", (), {"free": 1000}))
    assert "free some space" in refused(DiskFullError, photos, tmp_path / "cache", image_size=200)
    assert left(tmp_path / "cache") == [found.digest]


def test_cache_that_cannot_be_written_is_one_line(photos, tmp_path):
    (tmp_path / "cache").write_text("a file")
    assert "set HPO_HOME to another" in refused(FileNotWritableError, photos, tmp_path / "cache")


@pytest.mark.parametrize("name", [entry.PIXELS, entry.LABELS, entry.ABOUT])
def test_damaged_entry_is_one_line(photos, tmp_path, name):
    found = provide(photos, tmp_path / "cache")
    file = tmp_path / "cache" / found.digest / name
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(DataDamagedError, match=f"--clear {found.digest}"):
        load(found, tmp_path / "cache")


def test_options_without_a_cache_are_refused(photos):
    with pytest.raises(UsageError, match="needs a cache_dir"):
        mapped(DataOptions(source=str(photos)), final=False)
