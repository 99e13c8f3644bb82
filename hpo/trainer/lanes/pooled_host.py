"""A lane host and its attempts, as their pool sees them."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing import reduction
from multiprocessing.connection import Connection

from hpo.trainer.lanes.messages import Begin, FromHost, Train, decode
from hpo.trainer.lanes.process_output import ProcessOutput
from hpo.trainer.messages import FromTrainer, Start, Started
from hpo.trainer.pipe import MessageReader, UnreadableMessageError
from hpo.trainer.pipe import decode as decode_of_trainer
from hpo.trainer.pooled_process import PooledProcess
from hpo.trainer.pooled_trainer import unreadable

END_SECONDS = 10.0
"""Time in which a lane leaves an attempt that was ended; then its host is killed, and all lanes with it.

A lane notices it where it waits for others, and at its next chunk of steps or report. What it compiles or builds itself
is not interrupted: one that was ended before its silence counts as a hang gets the rest of that time, too.
"""


@dataclass(kw_only=True)
class LaneAttempt:
    """An attempt in a lane."""

    number: int
    connection: Connection
    start: Start
    begun: bool = False
    """Whether it has reported that it runs."""
    heard_at: float = field(default_factory=time.monotonic)
    """Monotonic time of its last message, or of its start."""
    ends_by: float = math.inf
    """Monotonic time by which it is to leave its lane, because it has ended here."""
    killed: bool = False
    """Whether it was ended here without an outcome: its lane is of use again once it has left it."""
    closed: bool = False
    """Whether its pipe is closed at either end."""

    def __post_init__(self) -> None:
        self._messages = MessageReader(self.connection)

    def receive(self) -> Iterator[FromTrainer]:
        """Yield its messages that have arrived; notice a pipe that its lane has closed."""
        try:
            for content in self._messages.read():
                message = decode_of_trainer(content)
                self.heard_at = time.monotonic()
                self.begun = self.begun or isinstance(message, Started)
                yield message
        except (EOFError, OSError):
            self.closed = True
        except UnreadableMessageError as exc:
            yield unreadable(exc)

    def close(self) -> None:
        self.closed = True
        self.connection.close()


@dataclass(kw_only=True)
class PooledHost(PooledProcess):
    """A process that trains several attempts at once."""

    output: ProcessOutput
    """What it prints outside of its lanes."""
    retires: bool = False
    """Whether it gets no further attempt."""
    killed: bool = False
    """Whether it was killed here, because an attempt of it did not end."""
    attempts: dict[int, LaneAttempt] = field(default_factory=dict)
    """By slots: those that are trained."""
    leaving: dict[int, LaneAttempt] = field(default_factory=dict)
    """By slots: those that have ended here, and have yet to leave their lanes."""

    def __post_init__(self) -> None:
        self._messages = MessageReader(self.connection)
        # Attempts that it gets when it is requested, with their lanes and ends of pipes.
        self._queue: list[tuple[LaneAttempt, int, Connection]] = []

    def begin(self) -> None:
        with suppress(OSError):
            self.connection.send(Begin(self.fork.device))
            reduction.send_handle(self.connection, self.output.fileno(), self.pid)
        queue, self._queue = self._queue, []
        for attempt, lane, theirs in queue:
            self._send(attempt, lane, theirs)

    def train(self, slot: int, attempt: LaneAttempt, lane: int, theirs: Connection) -> None:
        """Send it an attempt, with its end of the attempt's pipe; one that has ended does not receive it."""
        self.attempts[slot] = attempt
        if self.request_end is None:
            self._send(attempt, lane, theirs)
        else:
            self._queue.append((attempt, lane, theirs))

    def _send(self, attempt: LaneAttempt, lane: int, theirs: Connection) -> None:
        with theirs, suppress(OSError):
            self.connection.send(Train(lane, attempt.number))
            # Its process id is needed on Windows only.
            reduction.send_handle(self.connection, theirs.fileno(), self.pid)
            attempt.connection.send(attempt.start)

    def receive(self) -> Iterator[FromHost]:
        """Yield its messages that have arrived; notice that it has closed its pipe."""
        try:
            for content in self._messages.read():
                yield decode(content)
        except (EOFError, OSError):
            self.closed_at = time.monotonic()
        except UnreadableMessageError:
            # Code of the objective has written to its pipe: its attempts end with it.
            self.kill()

    def copy_output(self) -> None:
        """Append to the logs of its attempts what it has printed outside of its lanes since the last call."""
        self.output.copy_to(attempt.start.log for attempt in self.attempts.values())

    def slot_of(self, number: int) -> int | None:
        """Return the slot of an attempt that has not left its lane."""
        for found in (self.leaving, self.attempts):
            for slot, attempt in found.items():
                if attempt.number == number:
                    return slot
        return None

    def end(self, slot: int, *, hung_seconds: float | None = None) -> None:
        """Close the pipe of an attempt, which then leaves its lane.

        `hung_seconds`, for one without an outcome: the time of silence after which it would have counted as hung.
        """
        attempt = self.attempts.pop(slot)
        attempt.killed, attempt.ends_by = hung_seconds is not None, time.monotonic() + END_SECONDS
        if hung_seconds is not None:
            attempt.ends_by = max(attempt.ends_by, attempt.heard_at + hung_seconds)
        attempt.close()
        if not any(attempt is queued for queued, _, _ in self._queue):
            self.leaving[slot] = attempt

    def close(self) -> None:
        for attempt in (*self.attempts.values(), *self.leaving.values()):
            attempt.close()
        for _, _, theirs in self._queue:
            theirs.close()
        self.output.close()
        super().close()
