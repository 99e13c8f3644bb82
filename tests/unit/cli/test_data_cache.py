"""`hpo data cache` shows and clears the decoded images of a host."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hpo.cli.main import run
from objectives.data_options import DataOptions
from objectives.images.cache import Cache
from objectives.images.provision import provided
from tests.photos import make_photos


@pytest.fixture
def cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the digests of two cached data sets."""
    monkeypatch.setenv("HPO_HOME", str(tmp_path))
    photos, digests = make_photos(tmp_path / "photos", 4, side=(8, 12)), []
    for size in (4, 5):
        with provided(DataOptions(source=str(photos), image_size=size), Cache(tmp_path / "cache")) as found:
            digests.append(found.digest)
    return digests


def test_cached_data_sets_are_listed(cached: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["data", "cache"]) == 0
    printed = capsys.readouterr().out
    assert "12  4×4×3" in printed
    assert "photos" in printed
    assert run(["data", "cache", cached[1], "--json"]) == 0
    (one,) = json.loads(capsys.readouterr().out)
    assert (one["digest"], one["about"]["geometry"]["height"], one["in_use"]) == (cached[1], 5, False)


def test_cache_is_cleared_but_for_data_in_use(
    cached: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    with provided(DataOptions(source=str(tmp_path / "photos"), image_size=4), Cache(tmp_path / "cache")):
        assert run(["data", "cache", "--clear"]) == 0
        assert capsys.readouterr().out.startswith("1 data set removed, ")
        assert [one.digest for one in Cache(tmp_path / "cache").list()] == [cached[0]]
    assert run(["data", "cache", "--clear", cached[0]]) == 0
    capsys.readouterr()
    assert run(["data", "cache"]) == 0
    assert capsys.readouterr().out == "no cached data set: hpo launch --data makes one\n"


@pytest.mark.usefixtures("cached")
def test_unknown_digest_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["data", "cache", "--clear", "abc"]) == 2
    assert capsys.readouterr().err == "hpo: no cached data set abc: hpo data cache lists them\n"


def test_cache_of_a_new_home_is_empty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HPO_HOME", str(tmp_path / "none"))
    assert run(["data", "cache"]) == 0
    assert capsys.readouterr().out == "no cached data set: hpo launch --data makes one\n"
    assert not (tmp_path / "none").exists()
