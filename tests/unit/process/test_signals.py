"""Signals that a command handles, and those that it was started to ignore."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
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


FINALIZERS = """
import os, signal, sys
from hpo.process.signals import handle_interrupts

class HalfDone:
    def __init__(self, name):
        self.name = name

    def __del__(self):
        raise RuntimeError(self.name)

handle_interrupts()
one = HalfDone("before")
del one
try:
    two = HalfDone("after")
    os.kill(os.getpid(), int(sys.argv[1]))
except KeyboardInterrupt:
    del two
    print("interrupted")
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_what_a_signal_leaves_half_done_prints_no_error_when_it_is_collected(number: int) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", FINALIZERS, str(int(number))], capture_output=True, text=True, check=True
    )
    assert ended.stdout == "interrupted\n"
    assert "RuntimeError: before" in ended.stderr
    assert "after" not in ended.stderr
