"""The embedded PostgreSQL: one server per `HPO_HOME`, shared by every process that uses that home.

Each process holds a shared lock on `postgres.users` while it uses the server; whoever leaves and can turn
that lock into an exclusive one was the last, and stops the server. The running server itself holds
`postgres.alive`, a lock inherited by every one of its processes. The kernel drops both locks however a
process ends, so a SIGKILL leaves no stale state: a lock tells what a pid file can only claim.
Starting and stopping happen under a third lock, `postgres.lock`.
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
from types import TracebackType
from urllib.parse import quote

from hpo.errors import EmbeddedServerError
from storage.embedded import paths
from storage.embedded.paths import ELSEWHERE, START_SECONDS, STOP_SECONDS

_LOG_BYTES = 10_000_000

# Few processes and little memory: the server shares its host with training.
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

# What PostgreSQL's own words mean for the user; the first match counts.
_REMEDIES = (
    (r"No space left on device|Disk quota exceeded", "its disk is full: free some space"),
    (r"shared memory|semaphore", "the host grants too little shared memory: docker run --shm-size=256m"),
    (r"incompatible|initialized by", "its data are of another PostgreSQL version: move them away"),
    (r"Permission denied|invalid permissions|wrong ownership", "check who owns its folder"),
)


class EmbeddedServer:
    """This process's share of the server of one home; `close` gives it back, at exit at the latest."""

    def __init__(self, home: Path, *, root_base: Path = paths.ROOT_BASE) -> None:
        self.home = home.expanduser().absolute()
        self._root_base = root_base
        self._pid = os.getpid()
        self._closed = False
        self._users: int | None = None
        self._place: paths.Place | None = None

    @classmethod
    def start(cls, home: Path, *, root_base: Path = paths.ROOT_BASE) -> EmbeddedServer:
        """Join the server of `home`, and start it (about 1 s) if nobody has; raises EmbeddedServerError."""
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
        """A SQLAlchemy URL; who may enter the socket's folder needs no password."""
        host = quote(str(self.place.sockets), safe="/")
        return f"postgresql+psycopg2://postgres@/postgres?host={host}&port={paths.PORT}"

    def ensure_running(self) -> None:
        """Start the server unless it answers: at first, and again after it was killed."""
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
        """Stop using the server for good, and stop it if nobody else uses it."""
        self._closed = True
        if self._users is None:
            return
        if os.getpid() != self._pid:
            # A forked copy of this object shares its parent's lock and must not give it up.
            os.close(self._users)
            self._users = None
            return
        # Where the home has been removed under our feet there is nothing left to share; and where another
        # process hangs with the lock, the kernel drops ours when this one ends.
        with contextlib.suppress(OSError, EmbeddedServerError), self._locked():
            self._leave()

    def __enter__(self) -> EmbeddedServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
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
        """Nobody else starts or stops this home's server meanwhile."""
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
                # Its last processes are just ending, or it is only now opening its socket.
                if time.monotonic() > deadline:
                    raise self._failed(where, "is held by a PostgreSQL that does not answer")
                time.sleep(0.05)
        finally:
            # Closed, not unlocked: the server has inherited the lock.
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
        # We hold the lock that a living server would hold: whatever these say, it is dead.
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
                said = log.read(100_000).decode(errors="replace")
            raise self._failed(where, "cannot be started", said + done.stdout)

    def _create(self, where: paths.Place, programs: Path) -> None:
        """`initdb` beside the final place, then one rename: an interrupted one leaves no half cluster."""
        if where.data.exists() and any(where.data.iterdir()):
            raise EmbeddedServerError(
                f"{where.data} holds files that are not PostgreSQL's: set HPO_HOME elsewhere, {ELSEWHERE}"
            )
        fresh = where.data.with_name(f"{where.data.name}.new")
        if fresh.exists():
            shutil.rmtree(fresh)
        fresh.mkdir(mode=0o700)
        paths.own(fresh)
        # Trust: who may enter the folder of the socket may connect, and nobody else can.
        options = ["--auth=trust", "--encoding=UTF8", "--locale=C", "--no-instructions"]
        done = paths.run(programs / "initdb", "-D", fresh, "-U", "postgres", *options)
        if done.returncode:
            raise self._failed(where, "cannot be created", done.stdout)
        fresh.rename(where.data)

    def _stop(self, where: paths.Place) -> None:
        """Stop the server without raising: what cannot be stopped is found by the next to start."""
        with contextlib.suppress(OSError, subprocess.SubprocessError, EmbeddedServerError):
            alive = _open(self.home / "postgres.alive")
            try:
                # Dead already: then pg_ctl must not signal whoever has the old pid now.
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
        """Make the log file, which the server's user could not make itself in root's folder."""
        if where.log.exists() and where.log.stat().st_size > _LOG_BYTES:
            where.log.replace(where.log.with_suffix(".log.old"))
        if not where.log.exists():
            where.log.touch(mode=0o600)
            paths.own(where.log)

    def _failed(self, where: paths.Place, what: str, said: str = "") -> EmbeddedServerError:
        """One line: what failed, PostgreSQL's own last word on it, the log, and what to do."""
        remedy = next((words for pattern, words in _REMEDIES if re.search(pattern, said)), "")
        complaints = re.findall(r"(?:FATAL|PANIC|error):\s+(.+)", said)
        reason = remedy or (complaints[-1].strip() if complaints else "")
        return EmbeddedServerError(
            f"the embedded PostgreSQL in {where.data} {what}{f' ({reason})' if reason else ''}: "
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
    """Take an exclusive lock, trying for that long."""
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
