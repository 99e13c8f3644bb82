"""What attempts print: a file on the agent's host while they run, its last part in the database for all."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from hpo.files.bounded_log import FILE_BYTES, KEPT_BYTES, BoundedLog


class AttemptLog(BoundedLog):
    """The log of one attempt: of one that runs, or of one whose agent could not close it."""

    def __init__(self, path: Path, kept: Callable[[str, int], None]) -> None:
        """`kept` takes the tail and the number of bytes printed in all."""
        super().__init__(path)
        self._kept = kept
        self._shipped = 0

    def ship(self) -> None:
        """Keep the tail, when something was printed since."""
        # Another agent of the host may have closed it.
        with suppress(FileNotFoundError):
            size = self.path.stat().st_size
            printed = self._cut + size
            if printed == self._shipped:
                return
            tail = self._tail(size)
            self._kept(_as_text(tail), printed)
            self._shipped = printed
            if size > FILE_BYTES:
                self._shorten()

    def _tail(self, size: int) -> bytes:
        with self.path.open("rb") as file:
            file.seek(max(0, size - KEPT_BYTES))
            return file.read(KEPT_BYTES)

    def close(self) -> None:
        """Keep the tail a last time; the file goes."""
        self.ship()
        self.path.unlink(missing_ok=True)


def _as_text(printed: bytes) -> str:
    """As many bytes in UTF-8 as were printed, so that whoever follows knows where the new ones begin.

    A NUL, which PostgreSQL's text cannot hold, and every byte that is not UTF-8 becomes a `?`.
    """
    return re.sub("[\0\udc80-\udcff]", "?", printed.decode("utf-8", "surrogateescape"))
