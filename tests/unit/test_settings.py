"""Settings from the environment."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hpo.settings import ROOT_HOME, Settings


def test_root_keeps_its_things_outside_its_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    settings = Settings.from_environment({"XDG_DATA_HOME": "/somewhere"})
    assert settings.home == ROOT_HOME
    assert settings.checkpoints == ROOT_HOME / "checkpoints"


def test_a_user_keeps_them_where_the_desktop_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("HOME", "/home/me")
    assert Settings.from_environment({}).home == Path("/home/me/.local/share/hpo")
    assert Settings.from_environment({"XDG_DATA_HOME": "/data"}).home == Path("/data/hpo")
    assert Settings.from_environment({"XDG_DATA_HOME": "relative"}).home == Path("/home/me/.local/share/hpo")


def test_every_variable_counts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
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
    assert settings == Settings(tmp_path / "home", "postgresql://h/d", Path("/d"), Path("/r"), Path("/c"))


def test_empty_is_not_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    settings = Settings.from_environment({"HPO_HOME": "/h", "HPO_STORAGE": "", "HPO_DATA_DIR": ""})
    assert settings == Settings(
        Path("/h"), None, Path("/h/data"), tmp_path / "results", Path("/h/checkpoints")
    )


def test_a_password_is_not_shown() -> None:
    """As a notebook does that ends a cell with `hpo.load_study(…)`."""
    assert "s3cret" not in repr(Settings.from_environment({"HPO_STORAGE": "postgresql://me:s3cret@h/d"}))
