"""Where an interrupted trial goes on: one folder a trial, one file an epoch, written atomically.

A file is a NumPy `.npz` (a zip, so that every array carries a checksum) that holds the state an
objective saved and, as JSON, the epochs trained so far. It is written beside its final name,
synced and renamed, so a file with the final name is whole unless the disk itself fails; should
one be damaged all the same, the one before is used.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import uuid
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hpo.errors import DiskFullError, HpoError
from hpo.messages import EpochRecord

KEPT = 2
"""Checkpoints kept of a trial: the newest, and the one before in case the newest is damaged."""

_HEADER = "__header__"
# RuntimeError: a zip whose damaged flags say that it is encrypted, or of a version yet to come.
_DAMAGED = (OSError, ValueError, KeyError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error)


class CheckpointsUnwritableError(HpoError):
    """Nothing can be written where checkpoints belong."""


def check_writable(checkpoints: Path) -> None:
    """Make the folder of all checkpoints, and raise CheckpointsUnwritableError where none can be written."""
    probe = checkpoints / f".{uuid.uuid4().hex}"
    try:
        checkpoints.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"1")
        probe.unlink()
    except OSError as exc:
        raise CheckpointsUnwritableError(
            f"checkpoints cannot be written to {checkpoints} ({exc.strerror or exc}): set HPO_CHECKPOINTS to a"
            " folder that this user may write to, with space left"
        ) from exc


@dataclass(frozen=True)
class Checkpoint:
    """What was known at the end of an epoch."""

    epoch: int
    history: tuple[EpochRecord, ...]
    state: Mapping[str, Any]


class CheckpointFolder:
    """The checkpoints of one trial."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, history: Sequence[EpochRecord], state: Mapping[str, Any]) -> None:
        """Keep `state` as the end of the last epoch of `history`; older files than `KEPT` go.

        Raises:
            DiskFullError: there is no space; what was there before is untouched.
        """
        epoch = history[-1].epoch
        arrays = {name: value for name, value in state.items() if isinstance(value, np.ndarray)}
        header = {
            "history": [asdict(record) for record in history],
            "values": {name: value for name, value in state.items() if name not in arrays},
        }
        # As bytes, not as a string array: NumPy stores those with four bytes a character.
        arrays[_HEADER] = np.frombuffer(json.dumps(header).encode(), dtype=np.uint8)
        final = self.path / f"epoch-{epoch:06d}.npz"
        # Of this process alone: one that was fenced may be writing the same epoch.
        partial = final.with_suffix(f".{uuid.uuid4().hex}.partial")
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            with partial.open("wb") as file:
                np.savez(file, allow_pickle=False, **arrays)
                file.flush()
                os.fsync(file.fileno())
            partial.rename(final)
            _sync_folder(self.path)
        except OSError as exc:
            partial.unlink(missing_ok=True)
            if exc.errno in (errno.ENOSPC, errno.EDQUOT):
                raise DiskFullError(
                    f"no space left for checkpoints in {self.path.parent}: free some and run the same"
                    " command again; trials go on from their last checkpoint"
                ) from exc
            raise
        for old in self.files()[:-KEPT]:
            old.unlink(missing_ok=True)

    def newest(self) -> Checkpoint | None:
        """The newest checkpoint that can be read; None where there is none."""
        for path in reversed(self.files()):
            try:
                return _read(path)
            except _DAMAGED:
                continue
        return None

    def delete(self) -> None:
        """Remove the folder and all that is in it."""
        shutil.rmtree(self.path, ignore_errors=True)

    def files(self) -> list[Path]:
        """Its checkpoints, oldest first."""
        return sorted(self.path.glob("epoch-*.npz"))


def trial_folder(checkpoints: Path, study: str, token: int) -> CheckpointFolder:
    """The folder of the trial that holds this share of the study's budget."""
    return CheckpointFolder(study_folder(checkpoints, study) / f"trial-{token}")


def token_of(folder: Path) -> int | None:
    """The token of the trial whose folder this is; None for another folder."""
    _, dash, token = folder.name.partition("trial-")
    return int(token) if dash and token.isdecimal() else None


def study_folder(checkpoints: Path, study: str) -> Path:
    """The folder of all checkpoints of a study."""
    return checkpoints / study


def _read(path: Path) -> Checkpoint:
    # Opened here, for NumPy leaves the file open when it cannot make sense of it.
    with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
        header = json.loads(file[_HEADER].tobytes())
        state = {name: file[name] for name in file.files if name != _HEADER}
    history = tuple(EpochRecord(**record) for record in header["history"])
    return Checkpoint(history[-1].epoch, history, {**state, **header["values"]})


def _sync_folder(path: Path) -> None:
    """Make a rename in this folder survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
