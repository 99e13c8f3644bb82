"""The output of the lanes of one process: what code prints in a lane's thread goes to the log of its attempt.

Output of native code, and of threads that an objective starts, goes to the log of the template.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BufferedWriter, TextIOWrapper
from pathlib import Path
from typing import Any, cast

from hpo.files.bounded_log import BoundedLog, BoundedOutput
from hpo.ownership import open_private


class _OfThread:
    """A stream in place of `sys.stdout` or `sys.stderr` that stands for the one of the thread that uses it."""

    def __init__(self, lanes: threading.local, otherwise: Any) -> None:
        self._lanes = lanes
        self._otherwise = otherwise

    def __getattr__(self, name: str) -> Any:
        return getattr(getattr(self._lanes, "stream", self._otherwise), name)


class LaneOutput:
    """The streams of a process with lanes."""

    def __init__(self) -> None:
        self._lanes = threading.local()

    def install(self) -> None:
        """Replace the streams of this process."""
        sys.stdout = cast("Any", _OfThread(self._lanes, sys.stdout))
        sys.stderr = cast("Any", _OfThread(self._lanes, sys.stderr))

    @contextmanager
    def to(self, log: str) -> Iterator[int]:
        """Send what this thread prints in this block to the log of an attempt, whose descriptor is given.

        Raises:
            OSError: the log cannot be written.
        """
        path = Path(log)
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = open_private(path, os.O_WRONLY | os.O_APPEND)
        output = BoundedOutput(descriptor, BoundedLog(path))
        # Text that is not UTF-8, such as a file's name, is printed with escapes and ends no trial.
        stream = TextIOWrapper(BufferedWriter(output), "utf-8", "backslashreplace", line_buffering=True)
        self._lanes.stream = stream
        try:
            yield descriptor
        finally:
            del self._lanes.stream
            # User code may have closed it, and the disk may be full.
            with suppress(OSError, ValueError):
                stream.flush()
            with suppress(OSError, ValueError):
                stream.detach()
            os.close(descriptor)
