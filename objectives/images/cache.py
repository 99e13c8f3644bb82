"""The cache of decoded data sets: one folder each, named by its digest, locked while in use, bounded in size."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from hpo.errors import DataDamagedError, DiskFullError, FileNotWritableError
from objectives.images import entry
from objectives.images.entry import About
from objectives.images.parallel import Watch, ignore

DEFAULT_BYTES = 50 << 30
"""Default limit of the cached data sets of a host."""

_LOCK, _PARTIAL = ".lock", ".partial"
_FULL = (errno.ENOSPC, errno.EDQUOT)
_POLL_SECONDS = 0.1

Build = Callable[[Path], None]
"""Function that writes a data set into an empty folder."""


@dataclass(frozen=True, kw_only=True)
class Cached:
    """One data set in the cache."""

    digest: str
    about: About | None
    """None: its files are damaged."""
    bytes: int
    used_at: float
    """Time of the last use, in seconds since the epoch."""
    in_use: bool


class Cache:
    """The cache in one folder."""

    def __init__(self, folder: Path, most_bytes: int = DEFAULT_BYTES) -> None:
        self.folder = folder
        self._most_bytes = most_bytes

    def make_folder(self) -> None:
        """Create the folder, which only its user can enter.

        Raises:
            FileNotWritableError: it cannot be created.
        """
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as exc:
            raise self._error(exc) from exc

    def entry(self, digest: str) -> Path:
        """Return the folder of a data set, which may not exist."""
        return self.folder / digest

    @contextmanager
    def used(self, digest: str, size: int, build: Build, watch: Watch = ignore) -> Iterator[Path]:
        """Keep a data set in use within this block; one that is missing is built, by one process at a time.

        Raises:
            DiskFullError: there is no room for `size` more bytes.
            FileNotWritableError: the folder cannot be written.
        """
        self.make_folder()
        while True:
            with self._locked(digest, fcntl.LOCK_SH, watch) as locked:
                if locked and self.entry(digest).is_dir():
                    self._note_use(digest)
                    # It may hold the names of a million files, and a study runs for days.
                    del build
                    yield self.entry(digest)
                    return
            with self._locked(digest, fcntl.LOCK_EX, watch) as locked:
                if locked and not self.entry(digest).is_dir():
                    self._build(digest, size, build)

    @contextmanager
    def exclusive(self, name: str, watch: Watch) -> Iterator[None]:
        """Let one process at a time run this block.

        Raises:
            FileNotWritableError: the folder cannot be written.
        """
        self.make_folder()
        with self._locked(name, fcntl.LOCK_EX, watch):
            yield

    def list(self) -> list[Cached]:
        """Return the cached data sets, the last used first."""
        found = []
        for folder in self._entries():
            about = None
            with suppress(DataDamagedError):
                about = entry.about(folder)
            with suppress(OSError):
                found.append(
                    Cached(
                        digest=folder.name,
                        about=about,
                        bytes=_size(folder),
                        used_at=self._lock_file(folder.name).stat().st_mtime,
                        in_use=not self._try(folder.name, lambda _: None),
                    )
                )
        return sorted(found, key=lambda one: -one.used_at)

    def remove(self, digest: str) -> bool:
        """Remove a data set; return False if it is in use."""
        return self._try(digest, self._remove)

    def clear_leftovers(self) -> None:
        """Delete the remains of processes that were killed, and forget which files have been examined."""
        self._delete_leftovers()
        for file in self.folder.glob("files-*.json*"):
            with suppress(OSError):
                file.unlink()

    def _build(self, digest: str, size: int, build: Build) -> None:
        partial = self.folder / f"{digest}{_PARTIAL}"
        self._make_room(size)
        try:
            # A process that was killed has left it.
            _delete(partial)
            partial.mkdir()
            build(partial)
            _sync(partial)
            partial.rename(self.entry(digest))
        except OSError as exc:
            raise self._error(exc, size) from exc
        finally:
            with suppress(OSError):
                _delete(partial)

    def _make_room(self, size: int) -> None:
        """Remove the data sets that were used least recently until another one fits."""
        if size > self._most_bytes:
            raise DiskFullError(
                f"the decoded images take {_shown(size)}, more than the limit of the cache, {_shown(self._most_bytes)}:"
                " raise HPO_CACHE_SIZE, or give a smaller --image-size"
            )
        self._delete_leftovers()
        cached = self.list()
        total = sum(one.bytes for one in cached)
        free = self._free() + sum(one.bytes for one in cached if not one.in_use)
        if free < size:
            # Nothing is removed in vain.
            raise self._full(size, total)
        while total + size > self._most_bytes or self._free() < size:
            spare = [one for one in cached if not one.in_use]
            if not spare:
                raise self._full(size, total)
            cached.remove(spare[-1])
            if self.remove(spare[-1].digest):
                total -= spare[-1].bytes

    def _full(self, size: int, total: int) -> DiskFullError:
        if self._free() < size:
            return DiskFullError(
                f"the decoded images take {_shown(size)}, and {self.folder} has {_shown(self._free())} left: free some"
                " space, give a smaller --image-size, or choose another folder with HPO_HOME"
            )
        return DiskFullError(
            f"the decoded images take {_shown(size)}, and the {_shown(total)} in the cache {self.folder} are in use:"
            " raise HPO_CACHE_SIZE, or run again when other studies have ended"
        )

    def _free(self) -> int:
        return shutil.disk_usage(self.folder).free

    def _error(self, exc: OSError, size: int = 0) -> DiskFullError | FileNotWritableError:
        if exc.errno in _FULL:
            return self._full(max(size, self._free() + 1), 0)
        return FileNotWritableError(
            f"the cache {self.folder} cannot be written ({exc.strerror or exc}): fix that, or set HPO_HOME to another"
            " folder"
        )

    def _entries(self) -> Iterator[Path]:
        with suppress(OSError):
            yield from (path for path in self.folder.iterdir() if path.is_dir() and "." not in path.name)

    def _note_use(self, digest: str) -> None:
        with suppress(OSError):
            os.utime(self._lock_file(digest))

    def _delete_leftovers(self) -> None:
        for leftover in self.folder.glob(f"*{_PARTIAL}"):
            if leftover.is_dir():
                self._try(leftover.name.removesuffix(_PARTIAL), self._delete_partial)

    def _delete_partial(self, digest: str) -> None:
        _delete(self.folder / f"{digest}{_PARTIAL}")

    def _remove(self, digest: str) -> None:
        gone = self.folder / f"{digest}{_PARTIAL}"
        # Renamed first: a process that is killed meanwhile leaves nothing that looks complete.
        with suppress(FileNotFoundError):
            self.entry(digest).rename(gone)
        _delete(gone)
        self._lock_file(digest).unlink(missing_ok=True)

    def _lock_file(self, name: str) -> Path:
        return self.folder / f"{name}{_LOCK}"

    def _try(self, digest: str, work: Callable[[str], None]) -> bool:
        """Work on a data set that no other process uses; return False if one does."""
        with self._locked(digest, fcntl.LOCK_EX | fcntl.LOCK_NB, ignore) as locked:
            if locked:
                try:
                    work(digest)
                except OSError as exc:
                    raise self._error(exc) from exc
            return locked

    @contextmanager
    def _locked(self, name: str, kind: int, watch: Watch) -> Iterator[bool]:
        """Lock a name within this block; yield False if another process holds or has removed the lock.

        `kind` waits unless it includes `LOCK_NB`.
        """
        path = self._lock_file(name)
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        except OSError as exc:
            raise self._error(exc) from exc
        try:
            yield _lock(descriptor, kind, watch) and _is_same(descriptor, path)
        finally:
            os.close(descriptor)


def _lock(descriptor: int, kind: int, watch: Watch) -> bool:
    while True:
        try:
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if kind & fcntl.LOCK_NB:
                return False
        except OSError:
            # This file system has no locks: continue without one.
            return True
        # Polled, so that a signal or the observer can end the wait.
        watch("waiting for another process that reads the same images", 0, 0)
        time.sleep(_POLL_SECONDS)


def _is_same(descriptor: int, path: Path) -> bool:
    with suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(descriptor), path.stat())
    return False


def _delete(folder: Path) -> None:
    with suppress(FileNotFoundError):
        shutil.rmtree(folder)


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.iterdir())


def _sync(folder: Path) -> None:
    """Write the files of a folder and its entries to disk."""
    for path in (*folder.iterdir(), folder):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _shown(count: float) -> str:
    for power, unit in ((30, "GiB"), (20, "MiB")):
        if count >= 1 << power:
            return f"{count / (1 << power):.1f} {unit}"
    return f"{count / 1024:.1f} KiB"
