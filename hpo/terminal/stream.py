"""A terminal that may disappear while output is written to it."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO


class TerminalStream:
    """A stream to a terminal; once the terminal is gone, writes are discarded.

    SIGHUP may arrive before or after the first write that fails, and the signal shuts the command down in order.
    Such a write is therefore not an error.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream: TextIO = getattr(stream, "unfiltered", stream)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        with self._discarding_if_gone():
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with self._discarding_if_gone():
            self._stream.flush()

    @contextmanager
    def _discarding_if_gone(self) -> Iterator[None]:
        try:
            yield
        except OSError as exc:
            if exc.errno != errno.EIO:
                raise
            # Buffered text is flushed at exit, and errors of that flush go to stderr.
            for descriptor in (self._stream.fileno(), 2):
                _redirect_to_null(descriptor)


def _redirect_to_null(descriptor: int) -> None:
    """Replace a terminal that is gone, on which each write fails, by /dev/null."""
    if stat.S_ISCHR(os.fstat(descriptor).st_mode) and not os.isatty(descriptor):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, descriptor)
        os.close(null)
