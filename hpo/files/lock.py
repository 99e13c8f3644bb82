"""Keeps two retrains from writing into the same checkpoints, and over the same results."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hpo.errors import FileNotWritableError, RetrainRunningError


@contextmanager
def exclusive_lock(folder: Path, study: str) -> Iterator[None]:
    """Hold the checkpoints of a retrain: two that wrote there would spoil each other's.

    Raises:
        RetrainRunningError: another process holds them.
        FileNotWritableError: the folder cannot be created.
    """
    descriptor = _lock(folder, study)
    try:
        yield
    finally:
        os.close(descriptor)


def _lock(folder: Path, study: str) -> int:
    path = folder / "lock"
    for _ in range(100):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as exc:
            if isinstance(exc, FileNotFoundError) and folder.parent.is_dir():
                continue  # The other one finished, and deleted the folder just now.
            raise FileNotWritableError(
                f"checkpoints cannot be written to {folder} ({exc.strerror}):"
                " choose another folder with HPO_CHECKPOINTS"
            ) from exc
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            os.close(descriptor)
            raise RetrainRunningError(
                f"another hpo retrain of study {study} is running that writes the same files"
                f" (it holds {path}): wait until it ends"
            ) from exc
        except OSError:
            return descriptor  # A file system without locks: as good as it gets.
        try:
            if os.path.samestat(os.fstat(descriptor), path.stat()):
                return descriptor
        except FileNotFoundError:
            pass
        # It was deleted with the folder by the one that held it, which has ended.
        os.close(descriptor)
    raise FileNotWritableError(f"{path} cannot be locked: it is deleted again and again")
