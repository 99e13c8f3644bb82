"""Folders of photos."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from objectives.data import stamps
from tests.photos import make_photos


@pytest.fixture(scope="session")
def made(tmp_path_factory) -> Path:
    return make_photos(tmp_path_factory.mktemp("made") / "photos", 10)


@pytest.fixture
def photos(made, tmp_path) -> Path:
    """Return a copy of the photos that a test may change, old enough to be remembered."""
    folder = tmp_path / "photos"
    shutil.copytree(made, folder)
    return folder


@pytest.fixture
def settled(monkeypatch) -> None:
    """Let files be remembered although they were written moments ago."""
    monkeypatch.setattr(stamps, "SETTLED_SECONDS", -60.0)
