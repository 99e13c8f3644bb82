"""The short form of the chaos suite; `make chaos` runs it for as long as asked."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.chaos import Chaos


@pytest.fixture
def folder() -> Iterator[Path]:
    """Open to all, for the database server of a root runs as another user."""
    with tempfile.TemporaryDirectory(prefix="hpo-chaos-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.mark.parametrize("seed", [20260101])
def test_the_books_balance_whatever_is_killed(folder: Path, seed: int) -> None:
    chaos = Chaos(folder, seed, trials=40)
    try:
        report = chaos.run()
        chaos.check()
    finally:
        survivors = chaos.close()
    assert not survivors, survivors
    assert len(report.faults) == 6, report
