"""A trainer as its pool sees it: its attempt, and the messages about it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

from hpo.outcomes import Outcome
from hpo.trainer.ends.exits import oom_kills
from hpo.trainer.messages import Finished, FromTrainer, Start, Started
from hpo.trainer.pipe import MessageReader, UnreadableMessageError, decode
from hpo.trainer.pooled_process import PooledProcess


@dataclass(kw_only=True)
class PooledTrainer(PooledProcess):
    """A process that trains one attempt at a time."""

    start: Start
    begun: bool = False
    """Whether it has reported that its attempt runs."""
    experienced: bool = False
    """Whether it has trained an attempt before this one."""

    def __post_init__(self) -> None:
        self._messages = MessageReader(self.connection)

    def begin(self) -> None:
        # A template that died with the request has closed the pipe: the trainer then counts as dead.
        with suppress(OSError):
            self.connection.send(self.start)

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
            yield unreadable(exc)


def unreadable(error: UnreadableMessageError) -> Finished:
    """Return the end of an attempt whose messages cannot be read."""
    return Finished(
        Outcome.BUG,
        f"its process sent a message that cannot be read ({error}): remove the code that writes to its pipe",
    )
