"""Outages of the database: retries while trials train, logged once."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable

from storage.connection.retry import Retry, short_reason

log = logging.getLogger(__name__)

PATIENCE_SECONDS = 3600.0
"""Longest wait for a database that became unreachable while trials train."""

LOG_AGAIN_SECONDS = 30.0
"""Time without a failure after which the next one is logged as another outage."""


def training_retry(interrupted: threading.Event, on_wait: Callable[[], None] = lambda: None) -> Retry:
    """Return a policy that retries for an hour, until a signal comes; `on_wait` is called before each retry."""
    failed_at = -math.inf

    def log_outage(error: BaseException, _seconds: float) -> None:
        nonlocal failed_at
        on_wait()
        now = time.monotonic()
        if now - failed_at > LOG_AGAIN_SECONDS:
            reason = short_reason(error)
            log.warning(f"the database does not answer; retrying while training continues: {reason}")
        failed_at = now

    return Retry(patience_seconds=PATIENCE_SECONDS, interrupted=interrupted, on_wait=log_outage)
