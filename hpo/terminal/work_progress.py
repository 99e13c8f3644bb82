"""Progress of work before a study begins: one line that is redrawn at a terminal, else a log line now and then."""

from __future__ import annotations

import logging
import sys
import time
from typing import TextIO, cast

from hpo import formatting
from hpo.terminal import log
from hpo.terminal.pace import Pace
from hpo.terminal.safe_output import safe_console
from hpo.terminal.stream import TerminalStream

logger = logging.getLogger(__name__)

LINE_SECONDS = 10.0
"""Seconds between two log lines."""
DRAW_SECONDS = 0.2


class WorkProgress:
    """Display of the stages of some work, with an estimate of the time left."""

    def __init__(self, unit: str, stream: TextIO | None = None) -> None:
        """Draw on `stream`, if it is a terminal, by default on standard output."""
        self._unit = unit
        self._stage = ""
        self._pace = Pace()
        self._live = None
        self._interval, self._shown_at = LINE_SECONDS, time.monotonic()
        if log.shows_view() if stream is None else stream.isatty():
            from rich.live import Live

            console = safe_console(cast(TextIO, TerminalStream(stream or sys.stdout)))
            self._live = Live(console=console, auto_refresh=False, transient=True)
            self._interval = DRAW_SECONDS
            self._live.start()

    def update(self, stage: str, done: int, total: int) -> None:
        """Show that `done` of `total` pieces of a stage are complete; a total of 0 means that it waits."""
        if stage != self._stage:
            self._stage, self._pace = stage, Pace()
            self._pace.begin()
            # A stage may block this thread before it can be shown.
            self._shown_at = min(self._shown_at, time.monotonic() - DRAW_SECONDS)
        now = time.monotonic()
        if now - self._shown_at < self._interval:
            return
        self._shown_at = now
        line = self.describe(done, total)
        if self._live is None:
            logger.info(line)
        else:
            from rich.text import Text

            self._live.update(Text(line), refresh=True)

    def describe(self, done: int, total: int) -> str:
        """Return the progress of the current stage as one line."""
        if not total:
            return self._stage
        left = self._pace.seconds_left(done, total - done)
        eta = "" if left is None else f", about {formatting.duration(left)} left"
        return f"{self._stage} {self._unit}: {done:,} of {total:,}{eta}"

    def close(self) -> None:
        """Restore the terminal."""
        if self._live is not None:
            self._live.stop()
            self._live = None
