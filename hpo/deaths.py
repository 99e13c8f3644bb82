"""What a pool tells of its trainers beside what they say themselves: that one died, or was never made."""

from __future__ import annotations

import signal
from dataclasses import dataclass

from hpo.messages import FromTrainer

CRASHES = (signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS)
"""How native code ends that goes wrong by itself, or is refused memory."""

UNBORN_SECONDS = 3.0
"""Before a trainer is asked for again, when none could be made."""


@dataclass(frozen=True)
class Unborn:
    """No trainer was made: its template died, or the host has no room for another process.

    Nothing that what was to be trained is to blame for: it is asked for again after `UNBORN_SECONDS`.
    """

    reason: str


@dataclass(frozen=True)
class Died:
    """A trainer ended without saying how."""

    reason: str
    status: int | None = None
    """Exit code, or minus the signal; None where nobody saw it."""

    @property
    def crashed(self) -> bool:
        """By itself, in native code: not killed from outside."""
        return -(self.status or 0) in CRASHES

    @property
    def terminated(self) -> bool:
        """Perhaps by a SIGTERM to all processes of a service."""
        return self.status in (None, -signal.SIGTERM)


Event = FromTrainer | Died | Unborn


def how_it_ended(status: int | None) -> str:
    """An exit status in words."""
    if status is None:
        return "its process ended without a word"
    if status < 0:
        name = signal.Signals(-status).name
        hint = " (out of memory?)" if name == "SIGKILL" else ""
        return f"its process was ended by {name}{hint}"
    return f"its process ended with exit code {status}"
