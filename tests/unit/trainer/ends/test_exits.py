"""The counter of out-of-memory kills, in control groups and on the host."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from hpo.trainer.ends import exits
from hpo.trainer.ends.exits import describe_exit, oom_kills


@pytest.fixture
def counters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Those that are looked at, in order; none is there yet."""
    found = [tmp_path / name for name in ("group", "host")]
    monkeypatch.setattr(exits, "_counters", lambda: iter(found))
    return found


def test_narrowest_existing_counter_is_used(counters: list[Path]) -> None:
    group, host = counters
    assert oom_kills() == 0
    host.write_text("nr_free_pages 7\noom_kill 5\n")
    assert oom_kills() == 5
    group.write_text("low 0\noom 3\noom_kill 2\noom_group_kill 0\n")
    assert oom_kills() == 2
    group.write_text("oom_kill_disable 0\nunder_oom 0\n")
    assert oom_kills() == 5


def test_counter_of_this_host_is_readable() -> None:
    assert oom_kills() >= 0


def test_exit_descriptions() -> None:
    assert describe_exit(-signal.SIGKILL) == "its process was ended by SIGKILL"
    assert "no memory left" in describe_exit(-signal.SIGKILL, out_of_memory=True)
