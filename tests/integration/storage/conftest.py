"""A clock that counts the waits before another try."""

from __future__ import annotations

import time

import pytest

from storage import opening
from storage.connection import retry


class Waits:
    """A clock of the storage package, on which only waits take time."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.seconds = 0.0
        """Seconds waited."""
        self._began_at = time.monotonic()
        for module in (opening, retry):
            patch.setattr(module, "time", self)

    def monotonic(self) -> float:
        return self._began_at + self.seconds

    def sleep(self, seconds: float) -> None:
        self.seconds += seconds


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> Waits:
    return Waits(monkeypatch)
