"""Settings from the environment."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hpo.errors import UsageError
from hpo.settings import ROOT_HOME, Settings


def test_home_of_root_is_outside_its_home_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    settings = Settings.from_environment({"XDG_DATA_HOME": "/somewhere"})
    assert settings.home == ROOT_HOME
    assert settings.checkpoints == ROOT_HOME / "checkpoints"


def test_home_of_user_follows_xdg(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("HOME", "/home/me")
    assert Settings.from_environment({}).home == Path("/home/me/.local/share/hpo")
    assert Settings.from_environment({"XDG_DATA_HOME": "/data"}).home == Path("/data/hpo")
    assert Settings.from_environment({"XDG_DATA_HOME": "relative"}).home == Path("/home/me/.local/share/hpo")


def test_every_variable_is_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    settings = Settings.from_environment(
        {
            "HPO_HOME": "home",
            "HPO_STORAGE": "postgresql://h/d",
            "HPO_DATA_DIR": "/d",
            "HPO_RESULTS_DIR": "/r",
            "HPO_CHECKPOINTS": "/c",
        }
    )
    assert settings == Settings(
        home=tmp_path / "home",
        storage="postgresql://h/d",
        data_dir=Path("/d"),
        results_dir=Path("/r"),
        checkpoints=Path("/c"),
    )


def test_empty_variable_is_unset(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    settings = Settings.from_environment({"HPO_HOME": "/h", "HPO_STORAGE": "", "HPO_DATA_DIR": ""})
    assert settings == Settings(
        home=Path("/h"),
        storage=None,
        data_dir=Path("/h/data"),
        results_dir=tmp_path / "results",
        checkpoints=Path("/h/checkpoints"),
    )


def test_repr_hides_password() -> None:
    """Notebooks print it if a cell ends with `hpo.load_study(…)`."""
    assert "s3cret" not in repr(Settings.from_environment({"HPO_STORAGE": "postgresql://me:s3cret@h/d"}))


@pytest.mark.parametrize("name", ["HPO_HOME", "HPO_DATA_DIR", "HPO_RESULTS_DIR", "HPO_CHECKPOINTS"])
def test_folder_of_an_unknown_user_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match=rf"{name}=~nosuchuser/x: there is no such user"):
        Settings.from_environment({"HPO_HOME": "/h", name: "~nosuchuser/x"})


def test_missing_home_folder_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> Path:
        raise RuntimeError

    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(Path, "home", missing)
    with pytest.raises(UsageError, match="set HPO_HOME"):
        Settings.from_environment({})


@pytest.mark.parametrize(
    ("value", "size"),
    [("", 50 << 30), ("500M", 500 << 20), ("1.5 TiB", 3 << 39), ("20g", 20 << 30), ("7", 7)],
)
def test_size_of_the_cache_is_read(value: str, size: int) -> None:
    assert Settings.from_environment({"HPO_CACHE_SIZE": value}).cache_bytes == size


@pytest.mark.parametrize("value", ["much", "-1G", "1e9", "G", "1X"])
def test_wrong_size_of_the_cache_is_refused(value: str) -> None:
    with pytest.raises(UsageError, match=f"HPO_CACHE_SIZE={value} is invalid: use a size"):
        Settings.from_environment({"HPO_CACHE_SIZE": value})
