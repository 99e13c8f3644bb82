"""The programs of PostgreSQL: creates a cluster, starts its server and reads its messages."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from pathlib import Path

from hpo.errors import EmbeddedServerError
from hpo.ownership import open_private
from storage.embedded import paths, sockets
from storage.embedded.paths import ELSEWHERE

_LOG_BYTES = 10_000_000

# Few processes and little memory, because the server shares its host with training.
_SETTINGS = {
    "listen_addresses": "",
    "port": str(paths.PORT),
    "max_connections": "200",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "shared_buffers": "64MB",
    "max_wal_size": "256MB",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "io_method": "sync",
    # Parallel queries need /dev/shm, of which a container has 64 MB.
    "max_parallel_workers_per_gather": "0",
    "max_parallel_maintenance_workers": "0",
    "log_line_prefix": "%m [%p] ",
}

# Remedies by pattern of PostgreSQL's message; the first match counts.
_REMEDIES = (
    (r"No space left on device|Disk quota exceeded", "its disk is full: free some space"),
    (r"shared memory|semaphore", "the host has too little shared memory: docker run --shm-size=256m"),
    (r"incompatible|initialized by", "its data are of another PostgreSQL version: move them elsewhere"),
    (r"Permission denied|invalid permissions|wrong ownership", "check the owner and the mode of its folder"),
)


def start(where: paths.Place, programs: Path, *, keep: int) -> int:
    """Start PostgreSQL, which inherits the file `keep`, and create its data first; return the end of its log before."""
    if not (where.data / "PG_VERSION").exists():
        _create(where, programs)
    found = (where.data / "PG_VERSION").read_text().strip()
    if found != str(paths.MAJOR):
        raise EmbeddedServerError(
            f"the data in {where.data} are of PostgreSQL {found}, not {paths.MAJOR}: set HPO_HOME to "
            f"another folder, use the hpo-service that made them, {ELSEWHERE}"
        )
    # These files are stale, because we hold the lock that a running server of this host would hold.
    where.pid_file.unlink(missing_ok=True)
    where.socket.with_name(f"{where.socket.name}.lock").unlink(missing_ok=True)
    settings = _SETTINGS | {"unix_socket_directories": str(where.sockets)}
    log_end = where.log.stat().st_size
    # Not pg_ctl: it passes the paths to a shell as text, which executes commands in their names.
    command: list[str | Path] = ["/bin/sh", "-c", '"$@" >>"$0" 2>&1 &', where.log, programs / "postgres"]
    options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
    paths.run(*command, "-D", where.data, *options, keep=keep)
    return log_end


def _create(where: paths.Place, programs: Path) -> None:
    """Run `initdb` next to the final folder, then rename, so that an interruption leaves no partial cluster."""
    if where.data.exists() and any(where.data.iterdir()):
        raise EmbeddedServerError(
            f"{where.data} holds files that are not PostgreSQL's: set HPO_HOME elsewhere, {ELSEWHERE}"
        )
    fresh = where.data.with_name(f"{where.data.name}.new")
    if fresh.exists():
        shutil.rmtree(fresh)
    fresh.mkdir(mode=0o700)
    paths.own(fresh)
    # Trust is safe, because only users that can enter the folder of the socket can connect.
    options = ["--auth=trust", "--encoding=UTF8", "--locale=C", "--no-instructions"]
    done = paths.run(programs / "initdb", "-D", fresh, "-U", "postgres", *options)
    if done.returncode:
        raise failed(where, "cannot be created", done.stdout)
    fresh.rename(where.data)


def open_log(where: paths.Place) -> None:
    """Create the log file, because the server's user may not create it in root's folder."""
    if where.log.exists() and where.log.stat().st_size > _LOG_BYTES:
        where.log.replace(where.log.with_suffix(".log.old"))
    os.close(open_private(where.log, os.O_WRONLY))
    # A log of an earlier version may be readable by all.
    where.log.chmod(0o600)
    paths.own(where.log)


def failed(where: paths.Place, problem: str, output: str = "") -> EmbeddedServerError:
    """Return an error with the problem, PostgreSQL's last message, the log and a remedy, in one line."""
    remedy = next((text for pattern, text in _REMEDIES if re.search(pattern, output)), "")
    messages = re.findall(r"(?:FATAL|PANIC|error):\s+(.+)", output)
    reason = remedy or (messages[-1].strip() if messages else "")
    return EmbeddedServerError(
        f"the embedded PostgreSQL in {where.data} {problem}{f' ({reason})' if reason else ''}: "
        f"see {where.log}, set HPO_HOME to another folder, {ELSEWHERE}"
    )


def is_ready(where: paths.Place) -> bool:
    """Whether the server has noted in its pid file that it accepts statements, and listens."""
    with contextlib.suppress(OSError):
        lines = where.pid_file.read_text(errors="replace").splitlines()
        return len(lines) > 7 and lines[7].strip() == "ready" and sockets.answers(where.socket)
    return False


def read_from(log: Path, begin: int) -> str:
    """Return the first messages of a log after `begin`."""
    with log.open("rb") as file:
        file.seek(begin)
        return file.read(100_000).decode(errors="replace")
