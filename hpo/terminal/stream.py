"""A terminal that may go away while something is shown on it."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO


class Terminal:
    """A stream to a terminal; once that is gone, what is written goes nowhere.

    The signal that says so (SIGHUP) may come before or after the first write that fails, and it is the signal that ends
    the command, in order. So such a write is no error.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        with self._perhaps_gone():
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with self._perhaps_gone():
            self._stream.flush()

    @contextmanager
    def _perhaps_gone(self) -> Iterator[None]:
        try:
            yield
        except OSError as exc:
            if exc.errno != errno.EIO:
                raise
            # What the stream still holds is written at the end of the process, and so are complaints.
            for descriptor in (self._stream.fileno(), 2):
                _let_go(descriptor)


def _let_go(descriptor: int) -> None:
    """Have what was a terminal and is gone, which fails at each write, be /dev/null."""
    if stat.S_ISCHR(os.fstat(descriptor).st_mode) and not os.isatty(descriptor):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, descriptor)
        os.close(nowhere)
