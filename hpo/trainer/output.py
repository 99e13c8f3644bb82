"""The output of a trainer, which goes to the bounded log of its attempt."""

from __future__ import annotations

import errno
import os
import sys
import threading
import time
from contextlib import suppress
from io import BufferedWriter, TextIOWrapper
from pathlib import Path
from typing import TextIO

from hpo.files.bounded_log import BoundedLog, BoundedOutput
from hpo.outcomes import Outcome
from hpo.ownership import open_private
from hpo.trainer.messages import Finished

LOG_CHECK_SECONDS = 0.05
"""Seconds between two checks of the log's size."""


def flush_output() -> None:
    for stream in (sys.stdout, sys.stderr):
        # User code may have closed or replaced them.
        with suppress(Exception):
            stream.flush()


def no_log(log: str, error: OSError) -> Finished:
    """Return the end of an attempt whose log cannot be written."""
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    reason = f"no space left for the log {log}" if full else f"the log cannot be written: {error}"
    return Finished(Outcome.DISK_FULL, f"{reason}: free some space and run the same command again")


class AttemptOutput:
    """The output of the attempt that this process trains, that of native libraries included."""

    def __init__(self) -> None:
        self._log: BoundedLog | None = None
        self._streams: tuple[TextIO, TextIO] = sys.stdout, sys.stderr

    @property
    def unchanged(self) -> bool:
        """Whether no code has replaced or closed the streams."""
        return self._streams == (sys.stdout, sys.stderr) and not any(one.closed for one in self._streams)

    def redirect(self, log: str) -> None:
        """Send it to the log of an attempt.

        Raises:
            OSError: the log cannot be written.
        """
        path = Path(log)
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = open_private(path, os.O_WRONLY | os.O_APPEND)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        os.close(descriptor)
        if self._log is not None:
            # Streams, and the thread below, continue with the next file.
            self._log.path = path
            return
        self._log = BoundedLog(path)
        self._streams = _bounded(sys.stdout, 1, self._log), _bounded(sys.stderr, 2, self._log)
        sys.stdout, sys.stderr = self._streams
        # Output of native libraries, of child processes, and of streams that the objective has kept.
        threading.Thread(target=_keep_bounded, args=(self._log,), name="log", daemon=True).start()


def _bounded(stream: TextIO, descriptor: int, log: BoundedLog) -> TextIO:
    """Return a stream in place of `stream` that truncates the log."""
    if not isinstance(stream, TextIOWrapper):
        return stream
    return TextIOWrapper(
        BufferedWriter(BoundedOutput(descriptor, log)),
        stream.encoding,
        # Text that is not UTF-8, such as a file's name, is printed with escapes and ends no trial.
        "backslashreplace",
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )


def _keep_bounded(log: BoundedLog) -> None:
    while True:
        log.truncate()
        time.sleep(LOG_CHECK_SECONDS)
