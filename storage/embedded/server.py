"""The embedded PostgreSQL: one server per `HPO_HOME`, shared by every process of one host that uses that home.

Each process holds a shared lock on `postgres.users` while it uses the server. A process that leaves and
can make that lock exclusive is the last, and stops the server. The running server holds a lock on
`postgres.alive`, which its processes inherit; no process connects unless that lock is held. The kernel
releases both locks even after a SIGKILL, so unlike a pid file they are never stale. Starting and stopping
happen under a third lock, `postgres.lock`. `postgres.host` names the host, because locks may be local to it.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

from hpo.errors import EmbeddedServerError
from storage.embedded import paths, sockets
from storage.embedded.holder import Holder
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
        """SQLAlchemy URL; without a password, because the mode of the socket's folder protects it.

        libpq compares the user of the server's process for each connection.
        """
        host = quote(str(self.place.sockets), safe="/")
        user = paths.server_user_name()
        peer = "" if user is None else f"&requirepeer={quote(user)}"
        return f"postgresql+psycopg2://postgres@/postgres?host={host}&port={paths.PORT}{peer}"

    def ensure_running(self) -> None:
        """Start the server unless it answers, for example after it was killed."""
        try:
            paths.make_home(self.home)
            with self._locked():
                where = paths.place(self.home, self._root_base)
                self._refuse_other_host(where)
                self._join()
                try:
                    self._place = self._start_unless_alive(where)
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

    def _refuse_other_host(self, where: paths.Place) -> None:
        """Raise EmbeddedServerError if another host runs the server; nothing of it may be removed then."""
        holder = Holder.read(where.note)
        if holder is None or holder.is_here or holder.has_ended(where.pid_file, where.note):
            return
        raise EmbeddedServerError(
            f"the embedded PostgreSQL in {where.data} is in use by the host {holder.host}, and serves one host only: "
            f"end hpo there, or set HPO_STORAGE to a server that both hosts reach; if {holder.host} no longer exists, "
            f"remove {where.note}"
        )

    @contextlib.contextmanager
    def _alive(self) -> Iterator[int]:
        """Yield the file that the server locks; closed without unlocking, because a new server has inherited it."""
        alive = _open(self.home / "postgres.alive")
        try:
            yield alive
        finally:
            os.close(alive)

    def _start_unless_alive(self, where: paths.Place) -> paths.Place:
        """Return the place of the running server, with the folder of its socket."""
        log_end = None
        deadline = time.monotonic() + STOP_SECONDS
        while True:
            with self._alive() as alive:
                if _try_lock(alive):
                    if log_end is not None:
                        raise self._failed(where, "cannot be started", _read_from(where.log, log_end))
                    where, log_end = self._start(where, alive)
                    deadline = time.monotonic() + START_SECONDS
                elif log_end is None:
                    where = replace(where, sockets=self._socket_folder(where))
            if _is_ready(where):
                sockets.refuse_foreign(where.sockets)
                return where
            # It has not opened its socket yet, or its last processes are ending.
            if time.monotonic() > deadline:
                raise self._failed(
                    where,
                    "is held by a PostgreSQL that does not answer, perhaps of another host",
                    "" if log_end is None else _read_from(where.log, log_end),
                )
            time.sleep(0.02)

    def _socket_folder(self, where: paths.Place) -> Path:
        """Return the folder in which the running server listens."""
        holder = Holder.read(where.note)
        return where.data.resolve() if holder is None else Path(holder.sockets)

    def _start(self, where: paths.Place, alive: int) -> tuple[paths.Place, int]:
        """Start the server, which inherits the locked file `alive`; return its place and the end of its log before."""
        programs = paths.programs(self._root_base)
        self._open_log(where)
        holder = Holder.read(where.note)
        data = where.data.resolve()
        folder = (
            data if sockets.usable(data) else sockets.make_folder(None if holder is None else holder.sockets)
        )
        where = replace(where, sockets=folder)
        Holder.here(folder).write(where.note)
        if not (where.data / "PG_VERSION").exists():
            self._create(where, programs)
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
        # Not pg_ctl: it passes the paths to a shell as text, which executes what is in their names.
        start: list[str | Path] = ["/bin/sh", "-c", '"$@" >>"$0" 2>&1 &', where.log, programs / "postgres"]
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        paths.run(*start, "-D", where.data, *options, keep=alive)
        return where, log_end

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
            holder = Holder.read(where.note)
            if holder is not None and not holder.is_here:
                return
            if self._end(where):
                where.note.unlink(missing_ok=True)
                if where.sockets != where.data.resolve():
                    shutil.rmtree(where.sockets)

    def _end(self, where: paths.Place) -> bool:
        """Return whether the server has ended, after asking it to."""
        with self._alive() as alive:
            # Already dead: pg_ctl must not signal another process with its old pid.
            if _try_lock(alive):
                return True
        programs = paths.programs(self._root_base)
        stop: list[str | Path] = [
            programs / "pg_ctl",
            "stop",
            "-w",
            "-s",
            "-t",
            str(STOP_SECONDS),
            "-D",
            where.data,
        ]
        return any(paths.run(*stop, "-m", mode).returncode == 0 for mode in ("fast", "immediate"))

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


def _is_ready(where: paths.Place) -> bool:
    """Whether the server has noted in its pid file that it accepts statements, and listens."""
    with contextlib.suppress(OSError):
        lines = where.pid_file.read_text(errors="replace").splitlines()
        return len(lines) > 7 and lines[7].strip() == "ready" and sockets.answers(where.socket)
    return False


def _read_from(log: Path, begin: int) -> str:
    """Return the first messages of a log after `begin`."""
    with log.open("rb") as file:
        file.seek(begin)
        return file.read(100_000).decode(errors="replace")


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
