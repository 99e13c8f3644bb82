"""The orderly end of a trainer: an interpreter's steps at its exit, for all that the trial itself has started.

Not the interpreter's own end, which would touch all of the memory that trainers share with their template, and run
the template's exit handlers and finalizers once more in each trainer.
"""

from __future__ import annotations

import atexit
import gc
import io
import logging
import threading
import time
import weakref
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

END_SECONDS = 10.0
"""Longest time for threads and exit handlers of a trial, after which its process ends all the same."""

ALIVE_SECONDS = 1.0
"""Time between two signs of life of a trainer that is ending."""

_inherited_files: list[io.IOBase] = []


def flush_before_forks() -> None:
    """Flush the files that loading has left open: each trainer would write the same buffers again."""
    _inherited_files[:] = _writable_files()
    _flush(_inherited_files)


def forget_template() -> None:
    """Leave exit handlers and finalizers of the template to the template; call it first in a trainer."""
    atexit._clear()
    finalize: Any = weakref.finalize
    finalize._registry.clear()
    # The next finalizer registers them again.
    finalize._registered_with_atexit = False
    atexit.register(logging.shutdown)


def end_orderly(
    drop: Callable[[], None], alive: Callable[[], None], expired: Callable[[], None], seconds: float
) -> None:
    """Join threads that are not daemons, run exit handlers, `drop` the objective, and flush open files.

    `alive` is called meanwhile, and `expired`, which must end the process, after `seconds`.
    """
    done = threading.Event()
    until = time.monotonic() + seconds

    def watch() -> None:
        while not done.wait(max(min(ALIVE_SECONDS, until - time.monotonic()), 0.0)):
            if time.monotonic() >= until:
                expired()
                return
            with suppress(Exception):
                alive()

    threading.Thread(target=watch, name="end", daemon=True).start()
    shut_down: Callable[[], None] = threading._shutdown  # type: ignore[attr-defined]
    for step in (shut_down, atexit._run_exitfuncs, drop, gc.collect, _close_files):
        # User code may raise anything; the trial's outcome is decided.
        with suppress(BaseException):
            step()
    done.set()


def _close_files() -> None:
    """Write the buffers of all files that are still open."""
    _flush(_inherited_files)
    files = _writable_files()
    # Text first: its buffer is flushed into the next layer.
    _flush(file for file in files if isinstance(file, io.TextIOBase))
    for file in files:
        # Compressed files end with a trailer.
        if not type(file).__module__.startswith(("_io", "io")):
            with suppress(Exception):
                file.close()
    _flush(files)


def _writable_files() -> list[io.IOBase]:
    """Return the open files, without those that were frozen before the fork."""
    found = []
    for item in gc.get_objects():
        # Not `isinstance`, which runs code of proxies.
        if issubclass(type(item), io.IOBase):
            with suppress(Exception):
                if not item.closed and item.writable():
                    found.append(item)
    return found


def _flush(files: Iterable[io.IOBase]) -> None:
    for file in files:
        with suppress(Exception):
            file.flush()
