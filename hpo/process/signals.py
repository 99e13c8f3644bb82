"""Signals sent to a command. By default they raise KeyboardInterrupt; a loop may handle them itself."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from hpo.process.hard_exit import exit_deadline

SIGTERM_SECONDS = 0.5
"""Time to wait for a SIGTERM that was sent to all processes of a service."""


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

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        self.received.append(number)
        self.event.set()
        if not self._deferred:
            raise KeyboardInterrupt


@contextmanager
def interruptible() -> Iterator[SignalHandler]:
    """Handle signals during a whole command that trains, the closing of its database included."""
    with exit_deadline(), SignalHandler() as interruption:
        yield interruption


_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
