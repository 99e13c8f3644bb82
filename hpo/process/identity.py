"""Which host and which process this is, so that a dead agent of the same host is known at once."""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from pathlib import Path

import psutil


def host_name() -> str:
    """The name under which this host appears in a study."""
    return socket.gethostname()


def process_identity(pid: int | None = None) -> str:
    """A process for life: its boot, its pid namespace, its id and when it started.

    Two containers may share a host name and a process id, but then not the namespace.
    """
    pid = pid or os.getpid()
    return f"{_place()}:{pid}:{_started(pid)}"


def is_dead(process: str) -> bool:
    """Whether that process ran here and has ended; False where it ran elsewhere and none can tell."""
    place, pid, _ = process.rsplit(":", 2)
    if place != _place():
        return False
    try:
        return not is_running(int(pid)) or process_identity(int(pid)) != process
    except psutil.NoSuchProcess:
        return True


def is_running(pid: int) -> bool:
    """Whether a process of this host still runs; a zombie has ended, though nobody has waited for it."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _started(pid: int) -> str:
    """When a process started, in words that do not change when the host's clock is set."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return f"{psutil.Process(pid).create_time():.2f}"
    # Field 22, in ticks since the boot; psutil adds the time of the boot, which moves with the clock.
    return stat.rpartition(")")[2].split()[19]


def _place() -> str:
    boot, namespace = "boot", "pid"
    with suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    with suppress(OSError):
        namespace = str(Path("/proc/self/ns/pid").readlink())
    return f"{boot}/{namespace}".replace(":", "")
