"""An exclusive lock on a folder, so that two retrains do not write the same checkpoints and results."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from hpo.errors import FileNotWritableError, RetrainRunningError
from hpo.ownership import open_private


@contextmanager
def exclusive_lock(folder: Path, study: str) -> Iterator[None]:
    """Hold the lock of a retrain's folder within this block.

    Raises:
        RetrainRunningError: another process holds the lock.
        FileNotWritableError: the folder cannot be created.
    """
    descriptor = _lock(folder, study)
    try:
        yield
    finally:
        os.close(descriptor)


def is_locked(folder: Path) -> bool:
    """Return whether a process on this host holds the lock of a folder; False if that is not known."""
    with suppress(OSError), (folder / "lock").open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _lock(folder: Path, study: str) -> int:
    path = folder / "lock"
    for _ in range(100):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            descriptor = open_private(path, os.O_RDWR)
        except OSError as exc:
            if isinstance(exc, FileNotFoundError) and folder.parent.is_dir():
                continue  # The other process finished and has just deleted the folder.
            raise FileNotWritableError(
                f"cannot write checkpoints to {folder} ({exc.strerror}):"
                " choose another folder with HPO_CHECKPOINTS"
            ) from exc
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            os.close(descriptor)
            raise RetrainRunningError(
                f"another hpo retrain of study {study} writes the same files (it holds {path}): wait until it ends"
            ) from exc
        except OSError:
            return descriptor  # This file system has no locks: continue without one.
        try:
            if os.path.samestat(os.fstat(descriptor), path.stat()):
                return descriptor
        except FileNotFoundError:
            pass
        # The previous holder has ended and deleted it with the folder.
        os.close(descriptor)
    raise FileNotWritableError(
        f"cannot lock {path}, which keeps being deleted: choose another folder with HPO_CHECKPOINTS"
    )
