"""The deciding reason of a shutdown, and its deadline."""

from __future__ import annotations

import signal

from hpo.errors import DiskFullError
from hpo.process.shutdown import INTERRUPTED_MESSAGE, Ending, Shutdown
from hpo.process.signals import SignalHandler

LONG = 1000.0


def after_signals(*signals: int) -> tuple[Shutdown, list[str]]:
    """Return a shutdown that has applied the signals one by one, and its notifications."""
    shutdown, interruption, notified = Shutdown(), SignalHandler(), []
    for number in signals:
        interruption.received.append(number)
        shutdown.apply_signals(interruption, notified.append)
    return shutdown, notified


def test_shutdown_without_a_reason_has_not_begun() -> None:
    shutdown, notified = after_signals()
    shutdown.apply_signals(SignalHandler(), notified.append)
    assert (shutdown.begun, shutdown.overdue, shutdown.ending, notified) == (False, False, None, [])


def test_first_reason_decides() -> None:
    shutdown, full = Shutdown(), DiskFullError("no space")
    shutdown.begin(Ending.DONE, LONG, full)
    shutdown.begin(Ending.INTERRUPTED, LONG)
    assert (shutdown.ending, shutdown.error) == (Ending.DONE, full)


def test_later_reason_only_shortens_the_deadline() -> None:
    shutdown = Shutdown()
    shutdown.begin(Ending.DONE, LONG)
    assert not shutdown.overdue
    shutdown.begin(Ending.DONE, 0.0)
    assert shutdown.overdue
    shutdown.begin(Ending.DONE, LONG)
    assert shutdown.overdue


def test_one_ctrl_c_waits_for_epochs_and_notifies_once() -> None:
    shutdown, notified = after_signals(signal.SIGINT)
    interruption = SignalHandler()
    interruption.received.append(signal.SIGINT)
    shutdown.apply_signals(interruption, notified.append)
    assert (shutdown.ending, shutdown.overdue, notified) == (Ending.INTERRUPTED, False, [INTERRUPTED_MESSAGE])


def test_second_ctrl_c_ends_immediately() -> None:
    shutdown, _ = after_signals(signal.SIGINT, signal.SIGINT)
    assert (shutdown.ending, shutdown.overdue) == (Ending.INTERRUPTED, True)


def test_sigterm_sets_a_short_deadline() -> None:
    shutdown, notified = after_signals(signal.SIGTERM)
    assert (shutdown.ending, shutdown.overdue, notified) == (Ending.INTERRUPTED, False, [])


def test_closed_output_does_not_prevent_a_graceful_shutdown() -> None:
    def notify(_: str) -> None:
        raise BrokenPipeError

    shutdown, interruption = Shutdown(), SignalHandler()
    interruption.received.append(signal.SIGINT)
    shutdown.apply_signals(interruption, notify)
    assert (shutdown.ending, shutdown.overdue) == (Ending.INTERRUPTED, False)
