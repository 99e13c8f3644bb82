"""Counter of the kernel's out-of-memory kills: the only way to distinguish its SIGKILL."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_CGROUPS = Path("/sys/fs/cgroup")


def kills() -> int:
    """Return the number of out-of-memory kills so far, in our control group or else on this host.

    0 if neither is readable, as outside Linux.
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
