"""Reports of progress, and that a trainer is alive while it loads the objective itself."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from objectives import values

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


def progress(done: Any, total: Any, images: Any, seconds: float) -> tuple[float, float]:
    """Return the completed part of an epoch, from 0 to 1, and images per second, of the numbers of a `run.tick`.

    Raises:
        ValueRefusedError: one of them is not a number.
    """
    part = values.number("done of run.tick()", done) / max(values.number("total of run.tick()", total), 1.0)
    rate = values.number("images of run.tick()", images) / max(seconds, 1e-9)
    # Only for display: a number that is not finite must not fail the trial.
    part, rate = (value if math.isfinite(value) else 0.0 for value in (part, rate))
    return min(max(part, 0.0), 1.0), rate
