"""A log file that processes append to; when it grows too long, only its end is kept.

The end of an attempt's log is uploaded to the database while it runs.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

KEPT_BYTES = 64 * 1024
"""Size of the end that is kept of a truncated file, and of an attempt's log in the database."""

FILE_BYTES = 8 * 1024 * 1024
"""Size beyond which a file is truncated to its last `KEPT_BYTES`."""

NOTICE = b"[hpo: %d bytes before this were cut off]\n"
"""First line of a truncated file, for its readers and for an agent that takes it over."""

CATCH_UP_READS = 16
"""Maximum reads, of `KEPT_BYTES` each, for output that arrives during a truncation."""

_NOTICE = re.compile(rb"\[hpo: ([0-9]{1,15}) bytes before this were cut off\]\n")


class BoundedLog:
    """Output of a process that may print without end."""

    def __init__(self, path: Path) -> None:
        self.path = path
        # Bytes that were printed and truncated.
        self._cut = _cut_before(path)

    def truncate(self) -> None:
        with suppress(OSError):
            if self.path.stat().st_size > FILE_BYTES:
                self._shorten()

    def _shorten(self) -> None:
        """Truncate the file in place: writers have it open for appending and continue at its new end.

        The end is written over the beginning first, which needs no new space on a full disk.
        """
        with suppress(OSError), self.path.open("r+b", 0) as file:
            begin = file.seek(-KEPT_BYTES, os.SEEK_END)
            cut = self._cut + begin
            notice = NOTICE % cut
            head = notice + file.read(KEPT_BYTES)
            read, written = begin + len(head) - len(notice), os.pwrite(file.fileno(), head, 0)
            # Output that arrived since; bounded, because a writer may never pause.
            for _ in range(CATCH_UP_READS):
                if not (more := os.pread(file.fileno(), KEPT_BYTES, read)):
                    break
                read, written = read + len(more), written + os.pwrite(file.fileno(), more, written)
            file.truncate(written)
            self._cut = cut - len(notice)


class AttemptLog(BoundedLog):
    """The log of a running attempt, or of one whose agent died before closing it."""

    def __init__(self, path: Path, upload: Callable[[str, int], None]) -> None:
        """`upload` takes the tail and the total number of bytes printed."""
        super().__init__(path)
        self._upload = upload
        self._uploaded = 0

    def upload(self) -> None:
        """Upload the tail, if something was printed since the last call."""
        # Another agent of the host may have closed it.
        with suppress(FileNotFoundError):
            size = self.path.stat().st_size
            printed = self._cut + size
            if printed == self._uploaded:
                return
            tail = self._tail(size)
            self._upload(_as_text(tail), printed)
            self._uploaded = printed
            if size > FILE_BYTES:
                self._shorten()

    def _tail(self, size: int) -> bytes:
        with self.path.open("rb") as file:
            file.seek(max(0, size - KEPT_BYTES))
            return file.read(KEPT_BYTES)

    def close(self) -> None:
        """Upload the tail a last time and remove the file."""
        self.upload()
        self.path.unlink(missing_ok=True)


def _cut_before(path: Path) -> int:
    """Return the number of bytes that another process has truncated from a file."""
    with suppress(OSError), path.open("rb") as file:
        if notice := _NOTICE.match(file.read(100)):
            return int(notice[1]) - len(notice[0])
    return 0


def _as_text(printed: bytes) -> str:
    """Return text with as many bytes in UTF-8 as were printed, so that a follower finds the new ones.

    A NUL, which PostgreSQL's text cannot hold, and every byte that is not UTF-8 become a `?`.
    """
    return re.sub("[\0\udc80-\udcff]", "?", printed.decode("utf-8", "surrogateescape"))
