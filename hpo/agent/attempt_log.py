"""Output of attempts: a file on the agent's host while they run, its last part in the database."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from hpo.files.bounded_log import FILE_BYTES, KEPT_BYTES, BoundedLog


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


def _as_text(printed: bytes) -> str:
    """Return text with as many bytes in UTF-8 as were printed, so that a follower finds the new ones.

    A NUL, which PostgreSQL's text cannot hold, and every byte that is not UTF-8 become a `?`.
    """
    return re.sub("[\0\udc80-\udcff]", "?", printed.decode("utf-8", "surrogateescape"))
