"""The embedded PostgreSQL: one server per `HPO_HOME`, shared by every process that uses that home.

Each process holds a shared lock on `postgres.users` while it uses the server. A process that leaves and
can make that lock exclusive is the last, and stops the server. The running server holds a lock on
`postgres.alive`, which its processes inherit. The kernel releases both locks even after a SIGKILL, so
unlike a pid file they are never stale. Starting and stopping happen under a third lock, `postgres.lock`.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

from hpo.errors import EmbeddedServerError
from storage.embedded import paths
from storage.embedded.paths import ELSEWHERE, START_SECONDS, STOP_SECONDS

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


class EmbeddedServer:
    """This process's use of the server of one home, until `close` or exit."""

    def __init__(self, home: Path, *, root_base: Path = paths.ROOT_BASE) -> None:
        self.home = home.expanduser().absolute()
        self._root_base = root_base
        self._pid = os.getpid()
        self._closed = False
        self._users: int | None = None
        self._place: paths.Place | None = None

    @classmethod
    def start(cls, home: Path, *, root_base: Path = paths.ROOT_BASE) -> EmbeddedServer:
        """Use the server of `home`; start it (about 1 s) if it is not running. Raises EmbeddedServerError."""
        server = cls(home, root_base=root_base)
        server.ensure_running()
        return server

    @property
    def place(self) -> paths.Place:
        if self._place is None:
            raise EmbeddedServerError(f"the embedded server of {self.home} is not running")
        return self._place

    @property
    def url(self) -> str:
        """SQLAlchemy URL; without a password, because the mode of the socket's folder protects it."""
        host = quote(str(self.place.sockets), safe="/")
        return f"postgresql+psycopg2://postgres@/postgres?host={host}&port={paths.PORT}"

    def ensure_running(self) -> None:
        """Start the server unless it answers, for example after it was killed."""
        try:
            self.home.mkdir(parents=True, exist_ok=True)
            with self._locked():
                self._join()
                try:
                    self._start_unless_alive()
                except BaseException:
                    self._leave()
                    raise
        except (OSError, subprocess.SubprocessError) as exc:
            reason = exc.strerror if isinstance(exc, OSError) and exc.strerror else exc
            raise EmbeddedServerError(
                f"the embedded PostgreSQL in {self.home} cannot be started ({reason}): "
                f"check the folder, set HPO_HOME to another, {ELSEWHERE}"
            ) from exc

    def close(self) -> None:
        """Stop using the server, and stop it if no other process uses it."""
        self._closed = True
        if self._users is None:
            return
        if os.getpid() != self._pid:
            # A forked copy of this object shares its parent's lock and must not give it up.
            os.close(self._users)
            self._users = None
            return
        # The home may have been removed, or another process may hang with the lock; the kernel releases
        # ours when this process ends.
        with contextlib.suppress(OSError, EmbeddedServerError), self._locked():
            self._leave()

    def __enter__(self) -> EmbeddedServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _join(self) -> None:
        if self._closed:
            raise EmbeddedServerError(f"the embedded server of {self.home} has been closed")
        if self._users is None:
            self._users = _open(self.home / "postgres.users")
            # Exclusive only under the lock that we hold now, so this never waits.
            fcntl.flock(self._users, fcntl.LOCK_SH)
            atexit.register(self.close)
        if self._place is None:
            self._place = paths.place(self.home, self._root_base)

    def _leave(self) -> None:
        users, where = self._users, self._place
        if users is None:
            return
        try:
            if where is not None and _try_lock(users):
                self._stop(where)
        finally:
            os.close(users)
            self._users = self._place = None
            atexit.unregister(self.close)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Prevent other processes from starting or stopping this home's server."""
        lock = _open(self.home / "postgres.lock")
        try:
            if not _try_lock(lock, seconds=START_SECONDS + STOP_SECONDS):
                raise EmbeddedServerError(
                    f"another process has been starting or stopping the embedded PostgreSQL in {self.home} "
                    f"for more than {START_SECONDS + STOP_SECONDS} s: end it, {ELSEWHERE}"
                )
            yield
        finally:
            os.close(lock)

    def _start_unless_alive(self) -> None:
        where = self.place
        alive = _open(self.home / "postgres.alive")
        try:
            deadline = time.monotonic() + STOP_SECONDS
            while not answers(where.socket):
                if _try_lock(alive):
                    self._start(where, alive)
                    return
                # Its last processes are ending, or it has not opened its socket yet.
                if time.monotonic() > deadline:
                    raise self._failed(where, "is held by a PostgreSQL that does not answer")
                time.sleep(0.05)
        finally:
            # Close without unlocking, because the server has inherited the lock.
            os.close(alive)

    def _start(self, where: paths.Place, alive: int) -> None:
        programs = paths.programs(self._root_base)
        self._open_log(where)
        if not (where.data / "PG_VERSION").exists():
            self._create(where, programs)
        found = (where.data / "PG_VERSION").read_text().strip()
        if found != str(paths.MAJOR):
            raise EmbeddedServerError(
                f"the data in {where.data} are of PostgreSQL {found}, not {paths.MAJOR}: set HPO_HOME to "
                f"another folder, use the hpo-service that made them, {ELSEWHERE}"
            )
        paths.make_socket_folder(where)
        # These files are stale, because we hold the lock that a running server would hold.
        (where.data / "postmaster.pid").unlink(missing_ok=True)
        (where.sockets / f"{where.socket.name}.lock").unlink(missing_ok=True)
        settings = _SETTINGS | {"unix_socket_directories": str(where.sockets)}
        options = " ".join(f"-c {name}='{value}'" for name, value in settings.items())
        log_end = where.log.stat().st_size
        start: list[str | Path] = [programs / "pg_ctl", "start", "-w", "-s", "-t", str(START_SECONDS), "-D"]
        done = paths.run(*start, where.data, "-l", where.log, "-o", options, keep=alive)
        if done.returncode:
            with where.log.open("rb") as log:
                log.seek(log_end)
                output = log.read(100_000).decode(errors="replace")
            raise self._failed(where, "cannot be started", output + done.stdout)

    def _create(self, where: paths.Place, programs: Path) -> None:
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
            raise self._failed(where, "cannot be created", done.stdout)
        fresh.rename(where.data)

    def _stop(self, where: paths.Place) -> None:
        """Stop the server if possible; never raises, because the next start finds a running server."""
        with contextlib.suppress(OSError, subprocess.SubprocessError, EmbeddedServerError):
            alive = _open(self.home / "postgres.alive")
            try:
                # Already dead: pg_ctl must not signal another process with its old pid.
                if _try_lock(alive):
                    return
            finally:
                os.close(alive)
            programs = paths.programs(self._root_base)
            for mode in ("fast", "immediate"):
                stop = ["stop", "-w", "-s", "-t", str(STOP_SECONDS), "-m", mode]
                if paths.run(programs / "pg_ctl", *stop, "-D", where.data).returncode == 0:
                    return

    def _open_log(self, where: paths.Place) -> None:
        """Create the log file, because the server's user may not create it in root's folder."""
        if where.log.exists() and where.log.stat().st_size > _LOG_BYTES:
            where.log.replace(where.log.with_suffix(".log.old"))
        if not where.log.exists():
            where.log.touch(mode=0o600)
            paths.own(where.log)

    def _failed(self, where: paths.Place, problem: str, output: str = "") -> EmbeddedServerError:
        """Return an error with the problem, PostgreSQL's last message, the log and a remedy, in one line."""
        remedy = next((text for pattern, text in _REMEDIES if re.search(pattern, output)), "")
        messages = re.findall(r"(?:FATAL|PANIC|error):\s+(.+)", output)
        reason = remedy or (messages[-1].strip() if messages else "")
        return EmbeddedServerError(
            f"the embedded PostgreSQL in {where.data} {problem}{f' ({reason})' if reason else ''}: "
            f"see {where.log}, set HPO_HOME to another folder, {ELSEWHERE}"
        )


def answers(path: Path) -> bool:
    """Whether a server listens on this socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(2)
        try:
            probe.connect(str(path))
        except BlockingIOError:
            return True
        except OSError:
            return False
    return True


def _open(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def _try_lock(descriptor: int, seconds: float = 0.0) -> bool:
    """Take an exclusive lock within so many seconds; False if another process holds it."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.02)
        else:
            return True
