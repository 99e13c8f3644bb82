"""Identity of a host and of a process, so that a dead agent of the same host is detected at once."""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from pathlib import Path

import psutil


def host_name() -> str:
    """Return the name under which this host appears in a study."""
    return socket.gethostname()


def process_identity(pid: int | None = None) -> str:
    """Return an identifier that no other process ever has: boot, PID namespace, PID and start time.

    Two containers may share a host name and a PID, but then not the namespace.
    """
    pid = pid or os.getpid()
    return f"{_namespace()}:{pid}:{_start_time(pid)}"


def is_dead(process: str) -> bool:
    """Whether a process of this host has ended; False for processes of other hosts, which cannot be checked."""
    namespace, pid, _ = process.rsplit(":", 2)
    if namespace != _namespace():
        return False
    try:
        return not is_running(int(pid)) or process_identity(int(pid)) != process
    except psutil.NoSuchProcess:
        return True


def is_running(pid: int) -> bool:
    """Whether a process of this host is running; a zombie is not."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _start_time(pid: int) -> str:
    """Return the start time of a process in a form that a change of the host's clock does not affect."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return f"{psutil.Process(pid).create_time():.2f}"
    # Field 22, in ticks since boot; psutil adds the boot time, which moves with the clock.
    return stat.rpartition(")")[2].split()[19]


def _namespace() -> str:
    boot, namespace = "boot", "pid"
    with suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    with suppress(OSError):
        namespace = str(Path("/proc/self/ns/pid").readlink())
    return f"{boot}/{namespace}".replace(":", "")
