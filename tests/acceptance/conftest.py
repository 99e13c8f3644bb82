"""A service of each test's own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.service import Service


@pytest.fixture
def service(tmp_path: Path, storage_url: str) -> Iterator[Service]:
    """On a migrated database; fails the test when one of its processes survives it."""
    yield from _serve(tmp_path, storage_url)


@pytest.fixture
def fresh_service(tmp_path: Path, empty_storage_url: str) -> Iterator[Service]:
    """On a database without any table."""
    yield from _serve(tmp_path, empty_storage_url)


def _serve(folder: Path, url: str) -> Iterator[Service]:
    service = Service(folder, url)
    try:
        yield service
    finally:
        survivors = service.close()
    assert not survivors, "processes outlived their agent: " + "; ".join(survivors)
