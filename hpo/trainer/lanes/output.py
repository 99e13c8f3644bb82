"""The output of the lanes of one process: what code prints in a lane's thread goes to the log of its attempt.

So does what handlers of `logging` write that were made before, when the objective was imported. All else is the
process's (`hpo.trainer.lanes.process_output`).
"""

from __future__ import annotations

import logging
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

    def install(self, descriptor: int) -> None:
        """Replace the streams of this process; what no lane prints goes to this descriptor."""
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        for name in ("stdout", "stderr"):
            before = getattr(sys, name)
            if isinstance(before, TextIOWrapper):
                before.reconfigure(line_buffering=True, errors="backslashreplace")
            stream = cast("Any", _OfThread(self._lanes, before))
            setattr(sys, name, stream)
            for handler in _handlers():
                if handler.stream is before:
                    handler.setStream(stream)

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

    @contextmanager
    def silent(self) -> Iterator[None]:
        """Drop what this thread prints in this block, because it is printed again where it belongs."""
        before = getattr(self._lanes, "stream", None)
        with open(os.devnull, "w") as nothing:  # noqa: PTH123 - no path
            self._lanes.stream = nothing
            try:
                yield
            finally:
                if before is None:
                    del self._lanes.stream
                else:
                    self._lanes.stream = before


def _handlers() -> Iterator[logging.StreamHandler[Any]]:
    """Yield the handlers of all loggers that write to a stream."""
    loggers = [logging.root, *logging.root.manager.loggerDict.values()]
    for logger in loggers:
        for handler in getattr(logger, "handlers", ()):
            if isinstance(handler, logging.StreamHandler):
                yield handler
