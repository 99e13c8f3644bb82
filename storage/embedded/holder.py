"""The host that runs the server of a home, noted next to its data.

Locks of a file system that several hosts share may be local to each host. So the host, its boot and its
namespace of processes are compared before anything is started, stopped or removed.
"""

from __future__ import annotations

import errno
import json
import os
import socket
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from storage.embedded import paths, sockets

STARTING_SECONDS = 120
"""Age from which a note without a running server counts as left behind: a start takes less."""


@dataclass(frozen=True, kw_only=True)
class Holder:
    """Identity of the host that runs a server, and the folder of the server's socket."""

    host: str
    machine: str
    boot: str
    """Boot of the host; two containers of a host have the same one."""
    processes: str
    """Namespace in which the server's pid is valid."""
    sockets: str

    @classmethod
    def here(cls, folder: Path) -> Holder:
        """Return the note of a server that this host starts, with its socket in `folder`."""
        machine = boot = processes = ""
        with suppress(OSError):
            machine = Path("/etc/machine-id").read_text().strip()
        with suppress(OSError):
            boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        with suppress(OSError):
            processes = str(Path("/proc/self/ns/pid").readlink())
        return cls(
            host=socket.gethostname(), machine=machine, boot=boot, processes=processes, sockets=str(folder)
        )

    @classmethod
    def read(cls, path: Path) -> Holder | None:
        """Return the note in a file; None if there is no valid one."""
        try:
            values = json.loads(path.read_bytes())
            return cls(**{field.name: str(values[field.name]) for field in fields(cls)})
        except (FileNotFoundError, ValueError, TypeError, KeyError):
            return None

    def write(self, path: Path) -> None:
        partial = path.with_name(f".{path.name}.partial")
        partial.unlink(missing_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        with os.fdopen(os.open(partial, flags, 0o600), "w") as file:
            json.dump(asdict(self), file)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)

    @property
    def is_here(self) -> bool:
        """Whether the server's locks, pid and socket are of this host's kernel and of this process's namespace."""
        here = Holder.here(Path(self.sockets))
        if not (self.boot and here.boot):
            return self.host == here.host
        return (self.boot, self.processes) == (here.boot, here.processes)

    def has_ended(self, pid_file: Path, note: Path) -> bool:
        """Whether another host's server has certainly ended, without its locks, which may not be visible here."""
        here = Holder.here(Path(self.sockets))
        if self.boot != here.boot and (self.host, self.machine) == (here.host, here.machine):
            return True  # This host has been rebooted.
        if not pid_file.exists():
            # PostgreSQL removes it when it ends, and ends when it is removed.
            return _age(note) > STARTING_SECONDS
        # Another container of this host, which has been killed: nothing listens on its socket.
        listening = sockets.connect_error(Path(self.sockets) / paths.SOCKET)
        return self.boot == here.boot and listening == errno.ECONNREFUSED


def _age(path: Path) -> float:
    """Return a file's age in seconds by the clock of its file system."""
    now = path.with_name("postgres.lock")
    try:
        os.utime(now)
        return now.stat().st_mtime - path.stat().st_mtime
    except FileNotFoundError:
        return 0.0
