"""What attempts print: a file on the agent's host while they run, its last part in the database for all."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

KEPT_BYTES = 64 * 1024
"""Of what an attempt printed, this much of the end is kept in the database."""

FILE_BYTES = 8 * 1024 * 1024
"""A file that grows beyond this is cut to its last `KEPT_BYTES`."""


@dataclass
class AttemptLog:
    """The log of one running attempt."""

    path: Path
    kept: Callable[[str, int], None]
    """Takes the tail and the number of bytes printed in all."""
    _seen: int = 0
    _cut: int = 0

    def ship(self) -> None:
        """Keep the tail, when something was printed since."""
        with suppress(FileNotFoundError):
            size = self.path.stat().st_size
            if size == self._seen:
                return
            tail = self._tail(size)
            self._seen = size
            self.kept(_as_text(tail), self._cut + size)
            if size > FILE_BYTES:
                self._shorten(size, tail)

    def bound(self) -> None:
        """Cut the file where it has grown too long, though its tail cannot be kept now."""
        with suppress(OSError):
            size = self.path.stat().st_size
            if size > FILE_BYTES:
                self._shorten(size, self._tail(size))
                # Not shown to anybody yet.
                self._seen = 0

    def close(self) -> None:
        """Keep the tail a last time; the file goes."""
        self.ship()
        self.path.unlink(missing_ok=True)

    def _tail(self, size: int) -> bytes:
        with self.path.open("rb") as file:
            file.seek(max(0, size - KEPT_BYTES))
            return file.read(KEPT_BYTES)

    def _shorten(self, size: int, tail: bytes) -> None:
        """Cut the file in place: the trainer has it open for appending and writes on at its new end."""
        # Where the disk is full, of the tail too: it is in the database, or will be printed no more.
        with suppress(OSError), self.path.open("r+b") as file:
            file.truncate(0)
            file.write(tail)
        self._cut += size - len(tail)
        self._seen = len(tail)


def _as_text(printed: bytes) -> str:
    """As many bytes in UTF-8 as were printed, so that whoever follows knows where the new ones begin.

    A NUL, which PostgreSQL's text cannot hold, and every byte that is not UTF-8 becomes a `?`.
    """
    return re.sub("[\0\udc80-\udcff]", "?", printed.decode("utf-8", "surrogateescape"))
