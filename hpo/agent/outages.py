"""Outages of the database: a server that starts next to its agents, and retries while trials train, logged once."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable

from hpo.settings import Settings
from storage.connection.retry import Retry, short_reason
from storage.engine import Database
from storage.opening import STARTUP_SECONDS, open_database

log = logging.getLogger(__name__)

PATIENCE_SECONDS = 3600.0
"""Longest wait for a database that became unreachable while trials train."""

LOG_AGAIN_SECONDS = 30.0
"""Time without a failure after which the next one is logged as another outage."""


def open_for_training(settings: Settings) -> Database:
    """Open the database of a command that trains: a server may start together with it, as after a power cut.

    Raises:
        HpoError: as `open_database`.
    """
    return open_database(settings.storage, settings.home, wait_seconds=STARTUP_SECONDS, on_wait=_log_wait)


def _log_wait(problem: str) -> None:
    log.warning(f"{problem}: trying again for {STARTUP_SECONDS:.0f} s")


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
