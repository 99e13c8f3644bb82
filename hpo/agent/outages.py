"""How commands that train wait for a database that went away: for long, and saying so once."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from storage.retry import Retry, short_reason

log = logging.getLogger(__name__)

PATIENCE_SECONDS = 3600.0
"""How long is waited for a database that went away while trials train."""

SAID_AGAIN_SECONDS = 30.0


def training_retry(interrupted: threading.Event, meanwhile: Callable[[], None] = lambda: None) -> Retry:
    """Tries for an hour, but not once a signal has come; `meanwhile` is done before each new try."""
    return Retry(patience_seconds=PATIENCE_SECONDS, interrupted=interrupted, on_wait=Outages(meanwhile))


class Outages:
    """Tells the user once that the database is away, not at each attempt to reach it; `meanwhile` is done at each."""

    def __init__(self, meanwhile: Callable[[], None] = lambda: None) -> None:
        self._meanwhile = meanwhile
        self._told = 0.0

    def __call__(self, error: BaseException, _seconds: float) -> None:
        self._meanwhile()
        now = time.monotonic()
        if now - self._told > SAID_AGAIN_SECONDS:
            log.info(f"the database does not answer, trying again (training goes on): {short_reason(error)}")
        self._told = now
