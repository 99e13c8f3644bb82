"""A trainer as its pool sees it: its pipe, its process and the end of both."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection

from hpo.outcomes import Outcome
from hpo.process.identity import is_running
from hpo.process.process_groups import kill_group
from hpo.trainer.ends.exits import TrainerExited, describe_exit, oom_kills
from hpo.trainer.messages import Finished, FromTrainer, Start, Started
from hpo.trainer.pipe import MessageReader, UnreadableMessageError, decode
from hpo.trainer.template.process import STATUS_SECONDS


@dataclass(kw_only=True)
class PooledTrainer:
    """A trainer that was requested, or is to be."""

    connection: Connection
    start: Start
    serial: int
    request_end: Connection | None
    """The trainer's end of the pipe until it is requested from the template."""
    pid: int | None = None
    status: int | None = None
    orphan: bool = False
    """Whether its template is dead, so that no message reports its exit."""
    closed_at: float | None = None
    """Monotonic time when its pipe was found closed; its exit status may still follow."""
    begun: bool = False
    """Whether it has reported that its attempt runs."""
    experienced: bool = False
    """Whether it has trained an attempt before this one."""
    oom_kills_before: int = field(default_factory=lambda: oom_kills())
    """Number of processes that the kernel had killed for lack of memory when the trainer started."""

    def __post_init__(self) -> None:
        self._messages = MessageReader(self.connection)

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

    @property
    def passes_on(self) -> bool:
        """Whether its attempt, which it has not begun, belongs to a fresh process when this one ends."""
        return self.experienced and not self.begun

    def restart(self, start: Start) -> bool:
        """Send it its next attempt; return False if it has ended."""
        self.start, self.experienced, self.begun = start, True, False
        self.oom_kills_before = oom_kills()
        try:
            self.connection.send(start)
        except OSError:
            return False
        return True

    def receive(self) -> Iterator[FromTrainer]:
        """Yield its messages that have arrived; notice a pipe that it has closed."""
        try:
            for content in self._messages.read():
                message = decode(content)
                if isinstance(message, Started):
                    self.pid, self.begun = message.pid, True
                yield message
        except (EOFError, OSError):
            self.closed_at = time.monotonic()
        except UnreadableMessageError as exc:
            self.kill()
            yield Finished(
                Outcome.BUG,
                f"its process sent a message that cannot be read ({exc}): remove the code that writes to its pipe",
            )

    def exited(self, others: Iterable[PooledTrainer]) -> TrainerExited:
        """Return the event of its exit; a kill for lack of memory is not attributed to one of the `others`, too."""
        kills = oom_kills()
        out_of_memory = self.status == -signal.SIGKILL and kills > self.oom_kills_before
        for other in others if out_of_memory else ():
            other.oom_kills_before = kills
        return TrainerExited(describe_exit(self.status, out_of_memory), self.status, out_of_memory)

    def kill(self) -> None:
        """Kill its process, if that is known, and the processes it has started."""
        if self.pid is not None:
            kill_group(self.pid)

    def close(self) -> None:
        self.connection.close()
        if self.request_end is not None:
            self.request_end.close()
