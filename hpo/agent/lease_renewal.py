"""The thread that renews an agent's leases, whatever the agent itself is busy with."""

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

AGAIN_SECONDS = 1.0
"""After a renewal that failed."""

STUCK_SECONDS = 600.0
"""Without a beat of the agent's own loop, after which its leases are not renewed any more."""


class LeaseRenewal(threading.Thread):
    """Renews every few seconds, and says which attempts it found ended by others.

    A lease says that somebody sees to a trial. That this thread lives does not prove it: the agent's loop may hang,
    in a file system that does not answer or a terminal that takes no more output. So it beats, and others take
    over what is held by one that has not for long.
    """

    def __init__(
        self, database: Database, agent_id: int, times: LeaseTimes, held: Callable[[], frozenset[int]]
    ) -> None:
        super().__init__(name="lease-keeper", daemon=True)
        self._database = database
        self._agent_id = agent_id
        self._times = times
        self._held = held
        self._done = threading.Event()
        self._beaten = time.monotonic()
        self._fenced: frozenset[int] = frozenset()
        self.unreachable: str | None = None
        """Why the last renewal failed; None while all is well."""

    def run(self) -> None:
        retry = Retry(patience_seconds=self._times.renew_seconds, interrupted=self._done)
        # After a failure soon again: others wait only so long for a renewal.
        while not self._done.wait(
            min(AGAIN_SECONDS, self._times.renew_seconds) if self.unreachable else self._times.renew_seconds
        ):
            if time.monotonic() - self._beaten > STUCK_SECONDS:
                continue
            # Asked before, so that an attempt claimed meanwhile is not taken for a lost one.
            held = self._held()
            try:
                live = self._database.transaction(
                    lambda connection: leases.renew(connection, self._agent_id, self._times.lease_seconds),
                    retry,
                )
            except Exception as exc:  # noqa: BLE001 - whatever it was, the next renewal may succeed
                self.unreachable = str(exc) if isinstance(exc, HpoError) else short_reason(exc)
                continue
            self.unreachable = None
            self._fenced |= held - live

    def beat(self) -> None:
        """The agent is at work."""
        self._beaten = time.monotonic()

    def fenced(self) -> frozenset[int]:
        """Attempts that were held at a renewal and had been ended by another agent."""
        return self._fenced

    def close(self) -> None:
        """End the thread; leases are not renewed any more."""
        self._done.set()
        # It may be waiting for a database that is away; it is a daemon, and holds nothing.
        self.join(CLOSE_SECONDS)
