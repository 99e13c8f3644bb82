"""A file that processes append to what they print: where it grows too long, only its end stays."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path

KEPT_BYTES = 64 * 1024
"""Of a file that is cut, this much of the end stays; as much is kept of an attempt in the database."""

FILE_BYTES = 8 * 1024 * 1024
"""A file that grows beyond this is cut to its last `KEPT_BYTES`."""

NOTICE = b"[hpo: %d bytes before this were cut off]\n"
"""Stands at the head of a file that was cut, for those who read it, and for an agent that adopts it."""

_NOTICE = re.compile(rb"\[hpo: ([0-9]{1,15}) bytes before this were cut off\]\n")


class LogFile:
    """What somebody prints who may print without end."""

    def __init__(self, path: Path) -> None:
        self.path = path
        # What the file's size lacks of what was printed.
        self._cut = _cut_before(path)

    def bound(self) -> None:
        """Cut the file where it has grown too long."""
        with suppress(OSError):
            size = self.path.stat().st_size
            if size > FILE_BYTES:
                self._shorten(size, self._tail(size))

    def _tail(self, size: int) -> bytes:
        with self.path.open("rb") as file:
            file.seek(max(0, size - KEPT_BYTES))
            return file.read(KEPT_BYTES)

    def _shorten(self, size: int, tail: bytes) -> None:
        """Cut the file in place: who prints has it open for appending, and writes on at its new end."""
        cut = self._cut + size - len(tail)
        notice = NOTICE % cut
        # Where the disk is full, of the tail too: it is in the database, or will be printed no more.
        with suppress(OSError), self.path.open("r+b") as file:
            file.truncate(0)
            file.write(notice + tail)
        self._cut = cut - len(notice)


def _cut_before(path: Path) -> int:
    """What the size of a file lacks that another process may have cut."""
    with suppress(OSError), path.open("rb") as file:
        if notice := _NOTICE.match(file.read(100)):
            return int(notice[1]) - len(notice[0])
    return 0
