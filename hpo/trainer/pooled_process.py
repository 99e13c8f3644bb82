"""A process that a pool has requested from its template: its pipe, its exit and its end."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection

from hpo.process.identity import is_running
from hpo.process.process_groups import kill_group
from hpo.trainer.ends.exits import TrainerExited, describe_exit, oom_kills
from hpo.trainer.template.messages import Fork
from hpo.trainer.template.process import STATUS_SECONDS


@dataclass(kw_only=True)
class PooledProcess:
    """A process that was requested, or is to be."""

    connection: Connection
    fork: Fork
    """The request for it."""
    request_end: Connection | None
    """Its end of the pipe until it is requested from the template."""
    pid: int | None = None
    status: int | None = None
    orphan: bool = False
    """Whether its template is dead, so that no message reports its exit."""
    closed_at: float | None = None
    """Monotonic time when its pipe was found closed; its exit status may still follow."""
    oom_kills_before: int = field(default_factory=lambda: oom_kills())
    """Number of processes that the kernel had killed for lack of memory when it started."""

    def begin(self) -> None:
        """Send its first messages, once it is requested; one that has ended does not receive them."""

    @property
    def unanswered(self) -> bool:
        """Whether the template has yet to answer the request for it."""
        return self.request_end is None and self.pid is None and not self.orphan

    @property
    def has_exited(self) -> bool:
        """Whether it has ended, although its template does not report that."""
        if self.closed_at is not None:
            return self.orphan or time.monotonic() - self.closed_at > STATUS_SECONDS
        # A process that it has forked may hold its pipe open.
        return self.orphan and self.pid is not None and not is_running(self.pid)

    def exited(self, others: Iterable[PooledProcess]) -> TrainerExited:
        """Return the event of its exit; a kill for lack of memory is not attributed to one of the `others`, too."""
        kills = oom_kills()
        out_of_memory = self.status == -signal.SIGKILL and kills > self.oom_kills_before
        for other in others if out_of_memory else ():
            other.oom_kills_before = kills
        return TrainerExited(describe_exit(self.status, out_of_memory), self.status, out_of_memory)

    def kill(self) -> None:
        """Kill it, if its id is known, and the processes it has started."""
        if self.pid is not None:
            kill_group(self.pid)

    def close(self) -> None:
        self.connection.close()
        if self.request_end is not None:
            self.request_end.close()
