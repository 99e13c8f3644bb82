"""A log file that processes append to; when it grows too long, only its end is kept.

The end of an attempt's log is uploaded to the database while it runs.
"""

from __future__ import annotations

import fcntl
import io
import os
import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer as Buffer

KEPT_BYTES = 64 * 1024
"""Size of the end that is kept of a truncated file, and of an attempt's log in the database."""

FILE_BYTES = 8 * 1024 * 1024
"""Size beyond which a file is truncated to its last `KEPT_BYTES`."""

NOTICE = b"[hpo: %d bytes before this were cut off]\n"
"""First line of a truncated file, for its readers and for an agent that takes it over."""

CATCH_UP_READS = 16
"""Maximum reads, of `KEPT_BYTES` each, for output that arrives during a truncation."""

CHUNK_BYTES = 1024 * 1024
"""Bytes that a process prints between two checks of its own."""

_NOTICE = re.compile(rb"\[hpo: ([0-9]{1,15}) bytes before this were cut off\]\n")


class BoundedLog:
    """Output of a process that may print without end."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def truncate(self) -> None:
        """Truncate the file if it has grown too long."""
        with suppress(OSError):
            if self.path.stat().st_size > FILE_BYTES:
                self._shorten()

    def _shorten(self) -> None:
        """Truncate the file in place: writers have it open for appending and continue at its new end.

        The end is written over the beginning first, which needs no new space on a full disk. Agent and trainer both
        do it; the one that finds the file locked leaves it to the other.
        """
        with suppress(OSError), self.path.open("r+b", 0) as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if file.seek(0, os.SEEK_END) <= FILE_BYTES:
                return
            begin = file.seek(-KEPT_BYTES, os.SEEK_END)
            notice = NOTICE % (_cut_before(file.fileno()) + begin)
            head = notice + file.read(KEPT_BYTES)
            read, written = begin + len(head) - len(notice), os.pwrite(file.fileno(), head, 0)
            # Output that arrived since; bounded, because a writer may never pause.
            for _ in range(CATCH_UP_READS):
                if not (more := os.pread(file.fileno(), KEPT_BYTES, read)):
                    break
                read, written = read + len(more), written + os.pwrite(file.fileno(), more, written)
            file.truncate(written)


class BoundedOutput(io.FileIO):
    """A descriptor of a log's file whose writer truncates the file itself, however fast it prints."""

    def __init__(self, descriptor: int, log: BoundedLog) -> None:
        super().__init__(descriptor, "w", closefd=False)
        self._log = log
        self._unchecked = 0

    def write(self, data: Buffer, /) -> int:
        """Write at most `CHUNK_BYTES`; a buffered writer passes the rest again."""
        written = super().write(memoryview(data)[:CHUNK_BYTES]) or 0
        self._unchecked += written
        if self._unchecked >= CHUNK_BYTES:
            self._unchecked = 0
            self._log.truncate()
        return written


class AttemptLog(BoundedLog):
    """The log of a running attempt, or of one whose agent died before closing it."""

    def __init__(self, path: Path, upload: Callable[[str, int], None]) -> None:
        """`upload` takes the tail and the total number of bytes printed."""
        super().__init__(path)
        self._upload = upload
        self._uploaded = 0

    def upload(self) -> None:
        """Upload the tail, if something was printed since the last call."""
        # Another agent of the host may have closed it; its trainer may be truncating it.
        with suppress(FileNotFoundError, BlockingIOError):
            with self.path.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                size = file.seek(0, os.SEEK_END)
                printed = _cut_before(file.fileno()) + size
                if printed == self._uploaded:
                    return
                file.seek(max(0, size - KEPT_BYTES))
                tail = file.read(KEPT_BYTES)
            self._upload(_as_text(tail), printed)
            self._uploaded = printed
            self.truncate()

    def close(self) -> None:
        """Upload the tail a last time and remove the file."""
        self.upload()
        self.path.unlink(missing_ok=True)


def _cut_before(descriptor: int) -> int:
    """Return the number of bytes that were truncated from an open file."""
    notice = _NOTICE.match(os.pread(descriptor, 100, 0))
    return int(notice[1]) - len(notice[0]) if notice else 0


def _as_text(printed: bytes) -> str:
    """Return text with as many bytes in UTF-8 as were printed, so that a follower finds the new ones.

    A NUL, which PostgreSQL's text cannot hold, and every byte that is not UTF-8 become a `?`.
    """
    return re.sub("[\0\udc80-\udcff]", "?", printed.decode("utf-8", "surrogateescape"))
