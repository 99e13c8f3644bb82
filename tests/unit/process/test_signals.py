"""Signals that a command handles, and those that it was started to ignore."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from hpo.process.signals import SignalHandler, interruptible


@pytest.fixture
def nohup() -> Iterator[None]:
    """Ignore SIGHUP, as commands under `nohup` do from their start."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.usefixtures("nohup")
def test_hangup_under_nohup_is_ignored() -> None:
    with interruptible() as signals:
        os.kill(os.getpid(), signal.SIGHUP)
        signals.check()
        assert signals.received == []
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN


def test_hangup_of_a_terminal_ends_a_command() -> None:
    with SignalHandler() as signals, signals.deferred():
        os.kill(os.getpid(), signal.SIGHUP)
        assert (signals.received, signals.terminated) == ([signal.SIGHUP], True)
