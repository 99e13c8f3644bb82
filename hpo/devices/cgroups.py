"""Limits that control groups set for this process, as containers and service managers use them (cgroup v1 and v2)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath

OWN_GROUPS = Path("/proc/self/cgroup")
MOUNT = Path("/sys/fs/cgroup")


def cpu_quota() -> float | None:
    """Return the number of cores whose time this process may use; None: no limit."""
    quotas = []
    for folder, unified in _folders("cpu"):
        with suppress(OSError, ValueError):
            if unified:
                used, period = (folder / "cpu.max").read_text().split()
            else:
                used = (folder / "cpu.cfs_quota_us").read_text()
                period = (folder / "cpu.cfs_period_us").read_text()
            # "max", or -1 in v1, means that there is no limit.
            if used != "max" and int(used) > 0 and int(period) > 0:
                quotas.append(int(used) / int(period))
    return min(quotas, default=None)


def memory_limit() -> int | None:
    """Return the number of bytes that this process and its neighbours may use; None: no limit."""
    limits = []
    for folder, unified in _folders("memory"):
        # "max" means no limit, as does, in v1, a number larger than any memory.
        with suppress(OSError, ValueError):
            limits.append(int((folder / ("memory.max" if unified else "memory.limit_in_bytes")).read_text()))
    return min(limits, default=None)


def processes_left() -> int | None:
    """Return the number of processes and threads that may still be started here; None: no limit."""
    left = []
    for folder, _ in _folders("pids"):
        with suppress(OSError, ValueError):
            left.append(int((folder / "pids.max").read_text()) - int((folder / "pids.current").read_text()))
    return min(left, default=None)


def _folders(controller: str) -> Iterator[tuple[Path, bool]]:
    """Yield the folders of this process's group and of those around it, and whether they are of version 2.

    Each group limits all below it. Inside a container the path may be the host's, and its own group is mounted at the
    root.
    """
    try:
        lines = OWN_GROUPS.read_text(errors="replace").splitlines()
    except OSError:
        lines = []
    # The root of each version is always tried: the file may be hidden.
    roots = {(MOUNT, True): "/", (MOUNT / "unified", True): "/", (MOUNT / controller, False): "/"}
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, group = rest.partition(":")
        if not controllers:
            # Next to version 1, version 2 is mounted below it.
            roots[MOUNT, True] = roots[MOUNT / "unified", True] = group
        elif controller in controllers.split(","):
            roots.pop((MOUNT / controller, False), None)
            folder = MOUNT / controllers
            roots[folder if folder.is_dir() else MOUNT / controller, False] = group
    for (mount, unified), group in roots.items():
        inner = PurePosixPath(group.lstrip("/"))
        for path in (inner, *inner.parents):
            if ".." not in path.parts:
                yield mount / path, unified
