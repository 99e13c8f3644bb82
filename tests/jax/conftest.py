"""Only a run that names JAX as the backend collects these tests: `make test-jax`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from objectives import backend
from tests.acceptance.service import Service

collect_ignore_glob = [] if backend.chosen() == "jax" else ["test_*.py"]


@pytest.fixture
def service(open_folder: Path, storage_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    """The commands of one user, without a choice of the backend; each is a new process."""
    monkeypatch.delenv("KERAS_BACKEND")
    service = Service(open_folder, storage_url)
    yield service
    assert service.close() == []
