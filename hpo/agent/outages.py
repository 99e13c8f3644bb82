"""Outages of the database: retries while trials train, logged once."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from storage.retry import Retry, short_reason

log = logging.getLogger(__name__)

PATIENCE_SECONDS = 3600.0
"""Longest wait for a database that became unreachable while trials train."""

LOG_AGAIN_SECONDS = 30.0


def training_retry(interrupted: threading.Event, on_wait: Callable[[], None] = lambda: None) -> Retry:
    """Return a policy that retries for an hour, until a signal comes; `on_wait` is called before each retry."""
    return Retry(patience_seconds=PATIENCE_SECONDS, interrupted=interrupted, on_wait=Outages(on_wait))


class Outages:
    """Logs an outage once, not at each retry."""

    def __init__(self, on_wait: Callable[[], None] = lambda: None) -> None:
        self._on_wait = on_wait
        self._failed_at = 0.0

    def __call__(self, error: BaseException, _seconds: float) -> None:
        self._on_wait()
        now = time.monotonic()
        if now - self._failed_at > LOG_AGAIN_SECONDS:
            log.warning(
                f"the database does not answer; retrying while training continues: {short_reason(error)}"
            )
        self._failed_at = now
