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
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

from hpo.errors import EmbeddedServerError
from hpo.ownership import open_private
from storage.embedded import paths, postgres, sockets
from storage.embedded.holder import Holder
from storage.embedded.paths import ELSEWHERE, START_SECONDS, STOP_SECONDS


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
                        raise postgres.failed(
                            where, "cannot be started", postgres.read_from(where.log, log_end)
                        )
                    where, log_end = self._start(where, alive)
                    deadline = time.monotonic() + START_SECONDS
                elif log_end is None:
                    where = replace(where, sockets=self._socket_folder(where))
            if postgres.is_ready(where):
                sockets.refuse_foreign(where.sockets)
                return where
            # It has not opened its socket yet, or its last processes are ending.
            if time.monotonic() > deadline:
                raise postgres.failed(
                    where,
                    "is held by a PostgreSQL that does not answer, perhaps of another host",
                    "" if log_end is None else postgres.read_from(where.log, log_end),
                )
            time.sleep(0.02)

    def _socket_folder(self, where: paths.Place) -> Path:
        """Return the folder in which the running server listens."""
        holder = Holder.read(where.note)
        return where.data.resolve() if holder is None else Path(holder.sockets)

    def _start(self, where: paths.Place, alive: int) -> tuple[paths.Place, int]:
        """Start the server, which inherits the locked file `alive`; return its place and the end of its log before."""
        programs = paths.programs(self._root_base)
        postgres.open_log(where)
        holder = Holder.read(where.note)
        data = where.data.resolve()
        folder = (
            data if sockets.usable(data) else sockets.make_folder(None if holder is None else holder.sockets)
        )
        where = replace(where, sockets=folder)
        Holder.here(folder).write(where.note)
        return where, postgres.start(where, programs, keep=alive)

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


def _open(path: Path) -> int:
    return open_private(path, os.O_RDWR)


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
