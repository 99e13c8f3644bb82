"""Reasons for a shutdown, their exit codes and their deadlines."""

from __future__ import annotations

import logging
import signal

import pytest

from hpo.errors import DiskFullError
from hpo.process.shutdown import INTERRUPTED_MESSAGE, STOP_GRACE_SECONDS, ExitCode, Shutdown
from hpo.process.signals import SECOND_INTERRUPT_SECONDS, TERMINATE_SECONDS, SignalHandler

LONG = 1000.0


def shutdown_after(*signals: int) -> Shutdown:
    """Return a shutdown that was applied after each signal."""
    shutdown, handler = Shutdown(), SignalHandler()
    for number in signals:
        handler.received.append(number)
        shutdown.apply_signals(handler)
    return shutdown


def test_process_ends_within_ten_seconds_of_sigterm() -> None:
    """Containers are killed then."""
    assert STOP_GRACE_SECONDS + 2 < TERMINATE_SECONDS < 10
    assert SECOND_INTERRUPT_SECONDS < 5


def test_nothing_is_overdue_before_a_shutdown_begins(caplog: pytest.LogCaptureFixture) -> None:
    shutdown = Shutdown()
    shutdown.apply_signals(SignalHandler())
    assert (shutdown.begun, shutdown.overdue, shutdown.exit_code, caplog.messages) == (False, False, None, [])


def test_first_reason_decides_exit_code_and_error() -> None:
    shutdown, full = Shutdown(), DiskFullError("no space")
    shutdown.begin(ExitCode.DONE, LONG, full)
    shutdown.begin(ExitCode.INTERRUPTED, LONG)
    assert (shutdown.exit_code, shutdown.error) == (ExitCode.DONE, full)


def test_later_reason_shortens_the_deadline_and_never_extends_it() -> None:
    shutdown = Shutdown()
    shutdown.begin(ExitCode.DONE, LONG)
    assert not shutdown.overdue
    shutdown.begin(ExitCode.DONE, 0.0)
    assert shutdown.overdue
    shutdown.begin(ExitCode.DONE, LONG)
    assert shutdown.overdue


def test_one_ctrl_c_lets_epochs_finish_and_logs_it_once(caplog: pytest.LogCaptureFixture) -> None:
    shutdown = shutdown_after(signal.SIGINT)
    handler = SignalHandler()
    handler.received.append(signal.SIGINT)
    shutdown.apply_signals(handler)
    assert (shutdown.exit_code, shutdown.overdue) == (ExitCode.INTERRUPTED, False)
    assert caplog.messages == [INTERRUPTED_MESSAGE]


def test_second_ctrl_c_ends_at_once() -> None:
    shutdown = shutdown_after(signal.SIGINT, signal.SIGINT)
    assert (shutdown.exit_code, shutdown.overdue) == (ExitCode.INTERRUPTED, True)


def test_sigterm_leaves_a_few_seconds(caplog: pytest.LogCaptureFixture) -> None:
    shutdown = shutdown_after(signal.SIGTERM)
    assert (shutdown.exit_code, shutdown.overdue, caplog.messages) == (ExitCode.INTERRUPTED, False, [])


def test_epochs_finish_though_the_reader_of_the_log_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: logging.LogRecord) -> None:
        raise BrokenPipeError

    monkeypatch.setattr(logging.getLogger("hpo.process.shutdown"), "handle", fail)
    shutdown = shutdown_after(signal.SIGINT)
    assert (shutdown.exit_code, shutdown.overdue) == (ExitCode.INTERRUPTED, False)
