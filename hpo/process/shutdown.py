"""Shutdown of a process that trains: its reason, exit code and the deadline for running epochs."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from enum import IntEnum

from hpo.errors import HpoError
from hpo.process.signals import SignalHandler

INTERRUPT_GRACE_SECONDS = 60.0
"""Grace period for running epochs after one Ctrl-C."""

STOP_GRACE_SECONDS = 7.0
"""Grace period after SIGTERM or `hpo stop`: containers are killed after 10 s, and releasing takes time too."""

INTERRUPTED_MESSAGE = (
    f"interrupted: waiting at most {INTERRUPT_GRACE_SECONDS:.0f} s for running epochs;"
    " press Ctrl-C again to stop immediately. Run the same command to continue."
)


class Ending(IntEnum):
    """Reason to end, whose value is the exit code."""

    DONE = 0
    INTERRUPTED = 130


class Shutdown:
    """State of a shutdown. The first reason to end decides; later ones can only bring the deadline forward."""

    def __init__(self) -> None:
        self.ending: Ending | None = None
        """Reason of the shutdown; None until it begins."""
        self.error: HpoError | None = None
        """Error to raise once all trials are released."""
        self._deadline = 0.0

    @property
    def begun(self) -> bool:
        return self.ending is not None

    @property
    def overdue(self) -> bool:
        """Whether the deadline has passed."""
        return self.begun and time.monotonic() >= self._deadline

    def begin(self, ending: Ending, grace_seconds: float, error: HpoError | None = None) -> None:
        deadline = time.monotonic() + grace_seconds
        if self.ending is None:
            self.ending, self.error, self._deadline = ending, error, deadline
        else:
            self._deadline = min(self._deadline, deadline)

    def stop(self, error: HpoError | None = None) -> None:
        """Begin a shutdown that is not an interruption, with the short grace period."""
        self.begin(Ending.DONE, STOP_GRACE_SECONDS, error)

    def apply_signals(self, interruption: SignalHandler, notify: Callable[[str], None]) -> None:
        """Ctrl-C once waits for running epochs, twice ends at once; SIGTERM ends within 10 s."""
        if not interruption.received:
            return
        if interruption.terminated:
            self.begin(Ending.INTERRUPTED, STOP_GRACE_SECONDS)
        elif len(interruption.received) == 1:
            first = not self.begun
            self.begin(Ending.INTERRUPTED, INTERRUPT_GRACE_SECONDS)
            if first:
                # The reader of our output may have been ended by the same Ctrl-C.
                with suppress(BrokenPipeError):
                    notify(INTERRUPTED_MESSAGE)
        else:
            self.begin(Ending.INTERRUPTED, 0.0)
