"""Reports that a trainer is alive while it loads the objective itself."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

LOADING_SECONDS = 300.0
"""Longest time in which a trainer that loads the objective itself counts as alive without progress."""


@contextmanager
def signs_of_life(report: Callable[[], None], seconds: float) -> Iterator[None]:
    """Call `report` every so many seconds in this block, for as long as loading may take."""
    done = threading.Event()
    until = time.monotonic() + LOADING_SECONDS

    def repeat() -> None:
        with suppress(OSError):
            while not done.wait(seconds) and time.monotonic() < until:
                report()

    threading.Thread(target=repeat, name="loading", daemon=True).start()
    try:
        yield
    finally:
        done.set()
