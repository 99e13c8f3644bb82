"""How long work took over several sessions."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from hpo.retrain.timing import SessionLog


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Current value of both clocks of `time`."""
    now = [1000.0]
    monkeypatch.setattr(time, "time", lambda: now[0])
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def test_sessions_add_up_without_the_pauses_between_them(tmp_path: Path, clock: list[float]) -> None:
    for pause, length in ((0.0, 5.0), (100.0, 2.0)):
        clock[0] += pause
        work = SessionLog(tmp_path)
        clock[0] += length
        worked = work.end()
    assert (worked.seconds, worked.sessions) == (7.0, 2)


def test_killed_session_counts_up_to_its_last_checkpoint(tmp_path: Path, clock: list[float]) -> None:
    SessionLog(tmp_path)
    checkpoint = tmp_path / "seed-1" / "epoch-000001.npz"
    checkpoint.parent.mkdir()
    checkpoint.write_bytes(b"")
    os.utime(checkpoint, (1030.0, 1030.0))
    clock[0] += 500.0
    work = SessionLog(tmp_path)
    clock[0] += 1.0
    worked = work.end()
    assert (worked.seconds, worked.sessions) == (31.0, 2)


@pytest.mark.parametrize("content", ["", "[]", '{"seconds": 3}', json.dumps({"seconds": ["x"]})])
def test_damaged_file_starts_from_zero(tmp_path: Path, clock: list[float], content: str) -> None:
    (tmp_path / "sessions.json").write_text(content)
    work = SessionLog(tmp_path)
    clock[0] += 4.0
    assert work.end().sessions == 1
