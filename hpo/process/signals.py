"""The signals that a command is sent: at first they end it as Ctrl-C does, later its loop heeds them itself."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from hpo.process.hard_exit import ending_in_time

SIGTERM_SECONDS = 0.5


class SignalHandler:
    """Ctrl-C, SIGTERM and SIGHUP (the terminal is gone) while it is entered; for the main thread."""

    def __init__(self) -> None:
        self.received: list[int] = []
        """The signals so far, in order."""
        self.event = threading.Event()
        """Set by the first: whoever waits for a database that is away may stop waiting."""
        self._heeded = False

    def __enter__(self) -> SignalHandler:
        # What is ignored stays so: nohup has a command outlive its terminal.
        heard = [number for number in _SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
        self._before = {number: signal.signal(number, self._handle) for number in heard}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @property
    def terminated(self) -> bool:
        """Whether one of them was a SIGTERM or a SIGHUP: what is to be kept must be kept within seconds."""
        return not {signal.SIGTERM, signal.SIGHUP}.isdisjoint(self.received)

    def await_termination(self) -> None:
        """Give SIGTERM a moment: where every process of a service is told to end, this one may be told last."""
        until = time.monotonic() + SIGTERM_SECONDS
        while not self.terminated and time.monotonic() < until:
            time.sleep(0.02)

    @contextmanager
    def heeded(self) -> Iterator[None]:
        """Within this block a signal raises nothing: a loop looks at `received` itself."""
        self._heeded = True
        try:
            yield
        finally:
            self._heeded = False

    def check(self) -> None:
        """Raise KeyboardInterrupt if a signal has come.

        The handler raises it too, but in whatever code runs then: one that falls into a finalizer is lost.
        """
        if self.received:
            raise KeyboardInterrupt

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        self.received.append(number)
        self.event.set()
        if not self._heeded:
            raise KeyboardInterrupt


@contextmanager
def interruptible() -> Iterator[SignalHandler]:
    """For a command that trains, from its first moment to its last: closing a database takes time too."""
    with ending_in_time(), SignalHandler() as interruption:
        yield interruption


_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
