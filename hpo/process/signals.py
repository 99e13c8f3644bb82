"""Signals sent to a command. By default they raise KeyboardInterrupt; a loop may handle them itself."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

TERMINATE_SECONDS = 9.5
"""Longest time from a SIGTERM to the exit: containers are killed after 10 s."""

SECOND_INTERRUPT_SECONDS = 3.0
"""Longest time from a second Ctrl-C to the exit: enough to release the trials."""

SIGTERM_SECONDS = 0.5
"""Time to wait for a SIGTERM that was sent to all processes of a service."""

INTERRUPTED = 130

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

_interrupted = threading.Event()
"""Set once a signal has raised KeyboardInterrupt in this process."""


def interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
    """Handle a signal as Python handles Ctrl-C."""
    _interrupted.set()
    raise KeyboardInterrupt


def handle_interrupts() -> None:
    """Let Ctrl-C and SIGTERM raise KeyboardInterrupt, after which errors of finalizers are not printed.

    What is half done then, such as a listener that SQLAlchemy was adding, fails again when it is collected.
    """
    report = sys.unraisablehook

    def report_unless_interrupted(error: sys.UnraisableHookArgs) -> None:
        if not _interrupted.is_set():
            report(error)

    sys.unraisablehook = report_unless_interrupted
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, interrupt)
    # A command that does not handle it ends its child processes.
    signal.signal(signal.SIGTERM, interrupt)


class SignalHandler:
    """Context manager that handles SIGINT, SIGTERM and SIGHUP (the terminal is gone) in the main thread."""

    def __init__(self) -> None:
        self.received: list[int] = []
        """Signal numbers received so far, in order."""
        self.event = threading.Event()
        """Set by the first signal, to stop waiting for an unreachable database."""
        self._deferred = False

    def __enter__(self) -> SignalHandler:
        # An ignored signal stays ignored: nohup makes a command outlive its terminal.
        handled = [number for number in _SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
        self._before = {number: signal.signal(number, self._handle) for number in handled}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @property
    def terminated(self) -> bool:
        """Whether a SIGTERM or SIGHUP was received, which leaves only seconds."""
        return not {signal.SIGTERM, signal.SIGHUP}.isdisjoint(self.received)

    def await_termination(self) -> None:
        """Wait a moment for a SIGTERM: if it goes to every process of a service, it may reach this one last."""
        until = time.monotonic() + SIGTERM_SECONDS
        while not self.terminated and time.monotonic() < until:
            time.sleep(0.02)

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Record signals in this block without raising; the caller checks `received`."""
        self._deferred = True
        try:
            yield
        finally:
            self._deferred = False

    def check(self) -> None:
        """Raise KeyboardInterrupt if a signal was received.

        The handler raises it too, but it is lost if a finalizer happens to be running.
        """
        if self.received:
            raise KeyboardInterrupt

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.received.append(number)
        self.event.set()
        if not self._deferred:
            interrupt(number, frame)


@contextmanager
def exit_deadline() -> Iterator[None]:
    """Exit the process at most `TERMINATE_SECONDS` after a SIGTERM or SIGHUP that arrives in this block.

    A second Ctrl-C exits within `SECOND_INTERRUPT_SECONDS`.

    Python runs signal handlers only when a call into the database driver returns, which may take half a
    minute. The interpreter writes a byte for each signal at once, and a thread reads it here.
    Trainers notice that their pipes closed and stop at their last checkpoint; leases expire.
    """
    done = threading.Event()
    wake_read, wake_write = os.pipe()
    os.set_blocking(wake_write, False)

    def watch() -> None:
        interrupts = 0
        while number := os.read(wake_read, 1):
            interrupts += number[0] == signal.SIGINT
            left = TERMINATE_SECONDS if number[0] in (signal.SIGTERM, signal.SIGHUP) else None
            if interrupts >= 2:
                left = SECOND_INTERRUPT_SECONDS
            if left is not None and not done.wait(left):
                os._exit(INTERRUPTED)
        os.close(wake_read)

    before = signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
    threading.Thread(target=watch, name="exit-deadline", daemon=True).start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        done.set()
        os.close(wake_write)


@contextmanager
def interruptible() -> Iterator[SignalHandler]:
    """Handle signals during a whole command that trains, the closing of its database included."""
    with exit_deadline(), SignalHandler() as interruption:
        yield interruption
