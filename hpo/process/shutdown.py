"""How a process that trains ends: why, with which exit code, and until when running epochs may go on."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from enum import IntEnum

from hpo.errors import HpoError
from hpo.process.signals import SignalHandler

INTERRUPT_GRACE_SECONDS = 60.0
"""After one Ctrl-C: for running epochs to end."""

STOP_GRACE_SECONDS = 7.0
"""After SIGTERM or `hpo stop`: containers are killed after 10 s, and giving all back takes time too."""

INTERRUPTED_MESSAGE = (
    f"interrupted: running epochs may end (at most {INTERRUPT_GRACE_SECONDS:.0f} s);"
    " Ctrl-C again to stop at once. The same command continues."
)


class Ending(IntEnum):
    """Why the process ends, and with which exit code."""

    DONE = 0
    INTERRUPTED = 130


class Shutdown:
    """Begun by the first reason to end, which is the one that counts; later ones may only shorten it."""

    def __init__(self) -> None:
        self.ending: Ending | None = None
        """None while there is no reason to end."""
        self.error: HpoError | None = None
        """What is to be raised once everything has been given back."""
        self._deadline = 0.0

    @property
    def begun(self) -> bool:
        return self.ending is not None

    @property
    def overdue(self) -> bool:
        """Whether what still runs has had its time."""
        return self.begun and time.monotonic() >= self._deadline

    def begin(self, ending: Ending, grace_seconds: float, error: HpoError | None = None) -> None:
        deadline = time.monotonic() + grace_seconds
        if self.ending is None:
            self.ending, self.error, self._deadline = ending, error, deadline
        else:
            self._deadline = min(self._deadline, deadline)

    def stop(self, error: HpoError | None = None) -> None:
        """End soon, having done what was asked for or all that can be done."""
        self.begin(Ending.DONE, STOP_GRACE_SECONDS, error)

    def heed(self, interruption: SignalHandler, say: Callable[[str], None]) -> None:
        """Ctrl-C once: let running epochs end; twice: at once. SIGTERM: within 10 s."""
        if not interruption.received:
            return
        if interruption.terminated:
            self.begin(Ending.INTERRUPTED, STOP_GRACE_SECONDS)
        elif len(interruption.received) == 1:
            first = not self.begun
            self.begin(Ending.INTERRUPTED, INTERRUPT_GRACE_SECONDS)
            if first:
                # Whoever reads our output may have ended of the same Ctrl-C; epochs shall end all the same.
                with suppress(BrokenPipeError):
                    say(INTERRUPTED_MESSAGE)
        else:
            self.begin(Ending.INTERRUPTED, 0.0)
