"""Whether another agent of this host is dead must not depend on the host's clock."""

from __future__ import annotations

import subprocess
import sys

import psutil
import pytest

from hpo.process.identity import is_dead, process_identity


def test_ended_process_is_dead() -> None:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    identity = process_identity(process.pid)
    assert not is_dead(identity)
    process.communicate(b"\n")
    assert is_dead(identity)


def test_reused_pid_does_not_revive_a_process() -> None:
    place, pid, started = process_identity().rsplit(":", 2)
    assert is_dead(f"{place}:{pid}:{started}1")


def test_process_of_another_host_is_never_reported_dead() -> None:
    assert not is_dead("another boot/another namespace:1:1")


@pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="Linux alone derives the time from its clock"
)
def test_changed_clock_does_not_change_the_identity(monkeypatch: pytest.MonkeyPatch) -> None:
    identity = process_identity()
    monkeypatch.setattr(psutil._pslinux, "boot_time", lambda: 0.0)
    assert not is_dead(identity)
