"""How often the kernel has killed for want of memory: nothing else tells its SIGKILL from anybody's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_CGROUPS = Path("/sys/fs/cgroup")


def kills() -> int:
    """Processes killed for want of memory so far: in our control group, or else on this host.

    0 where neither tells, outside Linux for one.
    """
    for path in _counters():
        with suppress(OSError, ValueError):
            for line in path.read_text().splitlines():
                name, _, number = line.partition(" ")
                if name == "oom_kill":
                    return int(number)
    return 0


def _counters() -> Iterator[Path]:
    """Where it is written, the narrowest first: a container's neighbours must not be taken for it."""
    with suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            _, controllers, group = line.split(":", 2)
            # As it is called seen from the host; in a container its own is mounted at the root.
            for folder in (group.lstrip("/"), ""):
                if not controllers:
                    yield _CGROUPS / folder / "memory.events"
                elif "memory" in controllers.split(","):
                    yield _CGROUPS / "memory" / folder / "memory.oom_control"
    yield Path("/proc/vmstat")
