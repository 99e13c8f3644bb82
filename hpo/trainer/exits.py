"""What a pool tells of its trainers beside what they say themselves: that one died, or was never made."""

from __future__ import annotations

import signal
from dataclasses import dataclass

from hpo.trainer.messages import FromTrainer

CRASHES = (signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS)
"""How native code ends that goes wrong by itself, or is refused memory."""

SPAWN_RETRY_SECONDS = 3.0
"""Before a trainer is asked for again, when none could be made."""


@dataclass(frozen=True)
class SpawnFailed:
    """No trainer was made: its template died, or the host has no room for another process.

    Nothing that what was to be trained is to blame for: it is asked for again after `SPAWN_RETRY_SECONDS`.
    """

    reason: str


@dataclass(frozen=True)
class TrainerExited:
    """A trainer ended without saying how."""

    reason: str
    status: int | None = None
    """Exit code, or minus the signal; None where nobody saw it."""
    out_of_memory: bool = False
    """Whether the kernel has killed it for want of memory, as far as can be told."""

    @property
    def crashed(self) -> bool:
        """By itself, in native code: not killed from outside."""
        return -(self.status or 0) in CRASHES

    @property
    def terminated(self) -> bool:
        """Perhaps by a SIGTERM to all processes of a service."""
        return self.status in (None, -signal.SIGTERM)


Event = FromTrainer | TrainerExited | SpawnFailed


def how_it_ended(status: int | None, out_of_memory: bool = False) -> str:
    """An exit status in words."""
    if out_of_memory:
        return "the kernel killed its process: there was no memory left"
    if status is None:
        return "its process ended without a word"
    if status < 0:
        return f"its process was ended by {signal.Signals(-status).name}"
    return f"its process ended with exit code {status}"
