"""A service for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.service import Service
from tests.version_0_1 import FOLDER, copy_checkpoints


@pytest.fixture
def service(tmp_path: Path, storage_url: str) -> Iterator[Service]:
    """A service on a migrated database; the test fails if one of its processes survives."""
    yield from _serve(tmp_path, storage_url)


@pytest.fixture
def fresh_service(tmp_path: Path, empty_storage_url: str) -> Iterator[Service]:
    """A service on a database without tables."""
    yield from _serve(tmp_path, empty_storage_url)


@pytest.fixture
def old_service(tmp_path: Path, old_storage_url: str) -> Iterator[Service]:
    """On a database of version 0.1, with the checkpoints and the objectives of its user."""
    yield from _serve_old(tmp_path, old_storage_url)


@pytest.fixture
def moved_service(tmp_path: Path, empty_storage_url: str) -> Iterator[Service]:
    """On an empty database, with the checkpoints and the objectives of a user of version 0.1."""
    yield from _serve_old(tmp_path, empty_storage_url)


def _serve_old(folder: Path, url: str) -> Iterator[Service]:
    copy_checkpoints(folder / "checkpoints")
    for service in _serve(folder, url):
        service.set(PYTHONPATH=FOLDER, PYTHONDONTWRITEBYTECODE=1)
        yield service


def _serve(folder: Path, url: str) -> Iterator[Service]:
    service = Service(folder, url)
    try:
        yield service
    finally:
        survivors = service.close()
    assert not survivors, "processes outlived their agent: " + "; ".join(survivors)
