"""The thread that renews an agent's leases while its main thread is busy."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from hpo.errors import HpoError
from storage import leases
from storage.engine import Database
from storage.leases import LeaseTimes
from storage.retry import Retry, short_reason

CLOSE_SECONDS = 2.0

RETRY_SECONDS = 1.0
"""Time before the next renewal after one that failed."""

STUCK_SECONDS = 600.0
"""Time without a heartbeat of the agent's loop after which its leases are no longer renewed."""


class LeaseRenewal(threading.Thread):
    """Renews leases every few seconds, and collects the attempts that other agents have ended.

    That this thread lives does not prove that its agent works: the loop may hang in a file system that does not
    answer, or in a terminal that takes no more output. So the loop sends heartbeats; without them the leases expire
    and other agents resume the trials.
    """

    def __init__(
        self, database: Database, agent_id: int, times: LeaseTimes, held: Callable[[], frozenset[int]]
    ) -> None:
        super().__init__(name="lease-renewal", daemon=True)
        self._database = database
        self._agent_id = agent_id
        self._times = times
        self._held = held
        self._done = threading.Event()
        self._heartbeat_at = time.monotonic()
        self._fenced: frozenset[int] = frozenset()
        self.last_error: str | None = None
        """Reason why the last renewal failed; None after a success."""

    def run(self) -> None:
        retry = Retry(patience_seconds=self._times.renew_seconds, interrupted=self._done)
        # Soon after a failure: other agents wait only so long for a renewal.
        while not self._done.wait(
            min(RETRY_SECONDS, self._times.renew_seconds) if self.last_error else self._times.renew_seconds
        ):
            if time.monotonic() - self._heartbeat_at > STUCK_SECONDS:
                continue
            # Before the renewal: an attempt claimed meanwhile must not pass for a lost one.
            held = self._held()
            try:
                live = self._database.transaction(
                    lambda connection: leases.renew(connection, self._agent_id, self._times.lease_seconds),
                    retry,
                )
            except Exception as exc:  # noqa: BLE001 - after any error the next renewal may succeed
                self.last_error = str(exc) if isinstance(exc, HpoError) else short_reason(exc)
                continue
            self.last_error = None
            self._fenced |= held - live

    def heartbeat(self) -> None:
        """Report that the agent's loop is alive."""
        self._heartbeat_at = time.monotonic()

    def fenced(self) -> frozenset[int]:
        """Return the attempts that were held at a renewal but had been ended by another agent."""
        return self._fenced

    def close(self) -> None:
        """End the thread; leases are no longer renewed."""
        self._done.set()
        # It may wait for an unreachable database; it is a daemon and holds nothing.
        self.join(CLOSE_SECONDS)
