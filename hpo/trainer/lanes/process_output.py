"""What a process of lanes prints outside of its lanes' threads: native code, child processes, threads of its trials.

It belongs to no trial, so all that train meanwhile get it in their logs. The process writes it to a file without a
name, and the agent copies it: its last words are often why it died.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryFile

from hpo.files.bounded_log import FILE_BYTES, KEPT_BYTES
from hpo.files.bounded_log import NOTICE as CUT
from hpo.ownership import open_private

NOTICE = b"[hpo: printed by the process of this trial and others, outside of their threads]\n"
"""Line above each part of it in a log."""


class ProcessOutput:
    """The agent's end of it."""

    def __init__(self, folder: Path) -> None:
        """Make the file on the disk of a folder.

        Raises:
            OSError: it cannot be written.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self._file = TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115 - closed by `close`
        fcntl.fcntl(self._file, fcntl.F_SETFL, fcntl.fcntl(self._file, fcntl.F_GETFL) | os.O_APPEND)
        self._copied = 0

    def fileno(self) -> int:
        """Return the descriptor that the process writes to."""
        return self._file.fileno()

    def copy_to(self, logs: Iterable[str]) -> None:
        """Append what is new to logs; of more than a log keeps, only the end."""
        size = os.fstat(self.fileno()).st_size
        if size == self._copied:
            return
        begin = max(self._copied, size - KEPT_BYTES)
        cut = CUT % (begin - self._copied) if begin > self._copied else b""
        new = NOTICE + cut + os.pread(self.fileno(), KEPT_BYTES, begin)
        self._copied = size
        for log in logs:
            # The disk may be full, and user code may have removed the file.
            with suppress(OSError):
                _append(Path(log), new)
        if size > FILE_BYTES:
            # What is written in between is lost.
            os.ftruncate(self.fileno(), 0)
            self._copied = 0

    def close(self) -> None:
        self._file.close()


def _append(log: Path, printed: bytes) -> None:
    descriptor = open_private(log, os.O_WRONLY | os.O_APPEND)
    with os.fdopen(descriptor, "ab", 0) as file:
        file.write(printed if printed.endswith(b"\n") else printed + b"\n")
