"""A file that processes append to what they print: where it grows too long, only its end stays."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path

KEPT_BYTES = 64 * 1024
"""Of a file that is cut, this much of the end stays; as much is kept of an attempt in the database."""

FILE_BYTES = 8 * 1024 * 1024
"""A file that grows beyond this is cut to its last `KEPT_BYTES`."""

NOTICE = b"[hpo: %d bytes before this were cut off]\n"
"""Stands at the head of a file that was cut, for those who read it, and for an agent that adopts it."""

MEANWHILE = 16
"""While a file is cut, more is printed: how often it is looked for, `KEPT_BYTES` at most each time."""

_NOTICE = re.compile(rb"\[hpo: ([0-9]{1,15}) bytes before this were cut off\]\n")


class BoundedLog:
    """What somebody prints who may print without end."""

    def __init__(self, path: Path) -> None:
        self.path = path
        # What the file's size lacks of what was printed.
        self._cut = _cut_before(path)

    def bound(self) -> None:
        """Cut the file where it has grown too long."""
        with suppress(OSError):
            if self.path.stat().st_size > FILE_BYTES:
                self._shorten()

    def _shorten(self) -> None:
        """Cut the file in place: who prints has it open for appending, and writes on at its new end.

        Its end is written over its beginning before that, where the space is there already, should the disk be full.
        """
        with suppress(OSError), self.path.open("r+b", 0) as file:
            begin = file.seek(-KEPT_BYTES, os.SEEK_END)
            cut = self._cut + begin
            notice = NOTICE % cut
            head = notice + file.read(KEPT_BYTES)
            read, written = begin + len(head) - len(notice), os.pwrite(file.fileno(), head, 0)
            # What has been printed since, but not for ever.
            for _ in range(MEANWHILE):
                if not (more := os.pread(file.fileno(), KEPT_BYTES, read)):
                    break
                read, written = read + len(more), written + os.pwrite(file.fileno(), more, written)
            file.truncate(written)
            self._cut = cut - len(notice)


def _cut_before(path: Path) -> int:
    """What the size of a file lacks that another process may have cut."""
    with suppress(OSError), path.open("rb") as file:
        if notice := _NOTICE.match(file.read(100)):
            return int(notice[1]) - len(notice[0])
    return 0
