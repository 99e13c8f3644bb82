"""Events of trainers that a pool reports itself: a trainer exited, for which cause, or could not be started."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from hpo.trainer.messages import FromTrainer

CRASHES = (signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS)
"""Signals that end native code which fails by itself or is refused memory."""

_CGROUPS = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class SpawnFailed:
    """No trainer was started: its template died, or the host has no room for another process.

    Not the trial's fault: the supervisor retries.
    """

    reason: str


class Blame(Enum):
    """Whether an attempt may be at fault for the end of its process."""

    OWN = "it was the only attempt of the process"
    SHARED = "one of several attempts may be"
    NONE = "the process was ended because of another attempt"


@dataclass(frozen=True)
class TrainerExited:
    """A trainer exited without a `Finished`."""

    reason: str
    status: int | None = None
    """Exit code, or minus the signal; None if unknown."""
    out_of_memory: bool = False
    """Whether the kernel has probably killed it because memory ran out."""
    blame: Blame = Blame.OWN

    @property
    def crashed(self) -> bool:
        """Whether native code failed by itself, without a signal from outside."""
        return -(self.status or 0) in CRASHES

    @property
    def terminated(self) -> bool:
        """Whether a SIGTERM to all processes of a service may have ended it."""
        return self.status in (None, -signal.SIGTERM)


Event = FromTrainer | TrainerExited | SpawnFailed


def describe_exit(status: int | None, out_of_memory: bool = False) -> str:
    if out_of_memory:
        return "the kernel killed its process: there was no memory left"
    if status is None:
        return "its process ended with an unknown status"
    if status < 0:
        return f"its process was ended by {signal.Signals(-status).name}"
    return f"its process ended with exit code {status}"


def oom_kills() -> int:
    """Return the number of out-of-memory kills so far, in our control group or else on this host.

    It alone distinguishes the kernel's SIGKILL. 0 if neither is readable, as outside Linux.
    """
    for path in _counters():
        with suppress(OSError, ValueError):
            for line in path.read_text().splitlines():
                name, _, number = line.partition(" ")
                if name == "oom_kill":
                    return int(number)
    return 0


def _counters() -> Iterator[Path]:
    """Yield the files that hold the counter, the narrowest first, so that other containers are not counted."""
    with suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            _, controllers, group = line.split(":", 2)
            # The path as the host sees it; inside a container its own group is mounted at the root.
            for folder in (group.lstrip("/"), ""):
                if not controllers:
                    yield _CGROUPS / folder / "memory.events"
                elif "memory" in controllers.split(","):
                    yield _CGROUPS / "memory" / folder / "memory.oom_control"
    yield Path("/proc/vmstat")
