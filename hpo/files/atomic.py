"""Atomic writes: a file is complete or absent, even after a power cut."""

from __future__ import annotations

import errno
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from hpo.errors import FileNotWritableError

PARTIAL = ".partial"
"""Suffix of incomplete files."""


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary path next to `path`, which replaces `path` when the block ends.

    If the block raises, `path` stays as it was and nothing else is left.
    """
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}{PARTIAL}")
    try:
        yield partial
        _sync(partial)
        partial.replace(path)
        # The directory entry too.
        _sync(path.parent)
    finally:
        # On a read-only disk even the removal of a missing file fails.
        with suppress(OSError):
            partial.unlink()


@contextmanager
def output_file(path: Path) -> Iterator[Path]:
    """Yield the path at which to write a file that a user named: links are followed, devices and pipes written into.

    A regular file is replaced atomically and keeps its mode.

    Raises:
        OSError: the file cannot be written, its links form a circle, or one belongs to another user, so that any
            file of yours could be replaced.
    """
    _refuse_foreign_links(path)
    if path.exists() and not path.is_file():
        yield path
        return
    target = Path(os.path.realpath(path))
    if target.is_symlink():
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
    with atomic_write(target) as partial:
        yield partial
        if target.exists():
            shutil.copymode(target, partial)


@contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """Yield the path to write a user's file to, as `output_file`; its folder is made.

    Raises:
        FileNotWritableError: the file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with output_file(path) as partial:
            yield partial
    except OSError as exc:
        raise FileNotWritableError(
            f"{path} cannot be written ({exc.strerror or exc}): name another place"
        ) from exc


def _refuse_foreign_links(path: Path) -> None:
    # A circle of links repeats.
    seen: set[Path] = set()
    while path.is_symlink() and path not in seen:
        if path.lstat().st_uid not in (os.geteuid(), 0):
            raise PermissionError(errno.EACCES, f"the link {path} belongs to another user")
        seen.add(path)
        path = path.parent / path.readlink()


def _sync(path: Path) -> None:
    """Flush a file, or the entries of a folder, to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
