"""The end of a process that trains: its reason, its exit code and how long running epochs may take to finish."""

from __future__ import annotations

import logging
import time
from contextlib import suppress
from enum import IntEnum

from hpo.errors import HpoError
from hpo.process.signals import SignalHandler

log = logging.getLogger(__name__)

INTERRUPT_GRACE_SECONDS = 60.0
"""Time for running epochs to finish after one Ctrl-C."""

STOP_GRACE_SECONDS = 7.0
"""Time after SIGTERM or `hpo stop`: containers are killed after 10 s, and releasing trials takes time too."""

INTERRUPTED_MESSAGE = (
    f"interrupted: waiting at most {INTERRUPT_GRACE_SECONDS:.0f} s for running epochs;"
    " press Ctrl-C again to stop immediately. Run the same command to continue."
)


class ExitCode(IntEnum):
    """Exit codes of a process that trains."""

    DONE = 0
    INTERRUPTED = 130


class Shutdown:
    """A shutdown with the first reason to begin it; later reasons can only shorten its deadline."""

    def __init__(self) -> None:
        self.exit_code: ExitCode | None = None
        """None until the shutdown begins."""
        self.error: HpoError | None = None
        """Error to raise once everything has been released."""
        self._began_at = self._deadline = 0.0

    @property
    def begun(self) -> bool:
        return self.exit_code is not None

    @property
    def overdue(self) -> bool:
        return self.begun and time.monotonic() >= self._deadline

    @property
    def grace_seconds(self) -> float:
        """Time from its beginning to its deadline; 0 if nothing was waited for."""
        return self._deadline - self._began_at

    def begin(self, exit_code: ExitCode, grace_seconds: float, error: HpoError | None = None) -> None:
        now = time.monotonic()
        deadline = now + grace_seconds
        if self.exit_code is None:
            self.exit_code, self.error, self._began_at, self._deadline = exit_code, error, now, deadline
        else:
            self._deadline = min(self._deadline, deadline)

    def stop(self, error: HpoError | None = None) -> None:
        """Begin a shutdown with exit code 0, or with `error` where one is given."""
        self.begin(ExitCode.DONE, STOP_GRACE_SECONDS, error)

    def apply_signals(self, signals: SignalHandler) -> None:
        """Begin or shorten the shutdown: one Ctrl-C lets running epochs finish, a second ends at once."""
        if not signals.received:
            return
        if signals.terminated:
            self.begin(ExitCode.INTERRUPTED, STOP_GRACE_SECONDS)
        elif len(signals.received) == 1:
            first = not self.begun
            self.begin(ExitCode.INTERRUPTED, INTERRUPT_GRACE_SECONDS)
            if first:
                # The reader of our output may have ended by the same Ctrl-C; epochs must finish all the same.
                with suppress(BrokenPipeError):
                    log.warning(INTERRUPTED_MESSAGE)
        else:
            self.begin(ExitCode.INTERRUPTED, 0.0)
