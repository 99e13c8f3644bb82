"""Fixtures of commands that run in this process."""

from __future__ import annotations

from contextlib import nullcontext

import pytest

from hpo.cli import options


@pytest.fixture
def no_database(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let commands open no database; tests replace the functions that read it."""
    monkeypatch.setattr(options, "opened", lambda _: nullcontext(None))
