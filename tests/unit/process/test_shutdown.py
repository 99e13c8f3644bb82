"""Which reason to end counts, and how long running epochs may go on after it."""

from __future__ import annotations

import signal

from hpo.errors import DiskFullError
from hpo.process.shutdown import INTERRUPTED_MESSAGE, Ending, Shutdown
from hpo.process.signals import SignalHandler

LONG = 1000.0


def heeded(*signals: int) -> tuple[Shutdown, list[str]]:
    """A shutdown that has looked after each signal, and what it said."""
    shutdown, interruption, said = Shutdown(), SignalHandler(), []
    for number in signals:
        interruption.received.append(number)
        shutdown.heed(interruption, said.append)
    return shutdown, said


def test_nothing_is_overdue_before_there_is_a_reason_to_end() -> None:
    shutdown, said = heeded()
    shutdown.heed(SignalHandler(), said.append)
    assert (shutdown.begun, shutdown.overdue, shutdown.ending, said) == (False, False, None, [])


def test_the_first_reason_counts() -> None:
    shutdown, full = Shutdown(), DiskFullError("no space")
    shutdown.begin(Ending.DONE, LONG, full)
    shutdown.begin(Ending.INTERRUPTED, LONG)
    assert (shutdown.ending, shutdown.error) == (Ending.DONE, full)


def test_a_later_reason_shortens_what_is_left_and_never_lengthens_it() -> None:
    shutdown = Shutdown()
    shutdown.begin(Ending.DONE, LONG)
    assert not shutdown.overdue
    shutdown.begin(Ending.DONE, 0.0)
    assert shutdown.overdue
    shutdown.begin(Ending.DONE, LONG)
    assert shutdown.overdue


def test_one_ctrl_c_lets_epochs_end_and_says_so_once() -> None:
    shutdown, said = heeded(signal.SIGINT)
    interruption = SignalHandler()
    interruption.received.append(signal.SIGINT)
    shutdown.heed(interruption, said.append)
    assert (shutdown.ending, shutdown.overdue, said) == (Ending.INTERRUPTED, False, [INTERRUPTED_MESSAGE])


def test_a_second_ctrl_c_ends_at_once() -> None:
    shutdown, _ = heeded(signal.SIGINT, signal.SIGINT)
    assert (shutdown.ending, shutdown.overdue) == (Ending.INTERRUPTED, True)


def test_sigterm_leaves_a_few_seconds() -> None:
    shutdown, said = heeded(signal.SIGTERM)
    assert (shutdown.ending, shutdown.overdue, said) == (Ending.INTERRUPTED, False, [])


def test_epochs_end_though_nobody_reads_that_they_may() -> None:
    def say(_: str) -> None:
        raise BrokenPipeError

    shutdown, interruption = Shutdown(), SignalHandler()
    interruption.received.append(signal.SIGINT)
    shutdown.heed(interruption, say)
    assert (shutdown.ending, shutdown.overdue) == (Ending.INTERRUPTED, False)
