"""Checkpoints, from which interrupted trials resume: one folder a trial, one file an epoch, written atomically.

A file is a NumPy `.npz` with the state that an objective saved after an epoch and, as JSON, the epochs up to it,
followed by a digest; an epoch after which nothing was saved has no file. It is written under another name, synced and
renamed, so a file with the final name is complete unless the disk itself fails; then the digest shows the damage, and
the file before is used. A file that cannot be read because the disk does not answer is not damaged: a trial that
ignored it would start from scratch and delete it.

The outcome of a trial is saved next to them in the same way, until its agent has it in the database.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from hpo.errors import DiskFullError, HpoError
from hpo.files.atomic import PARTIAL, atomic_write
from hpo.outcomes import Outcome
from hpo.trainer.messages import EpochRecord
from hpo.trainer.pipe import epoch_record
from objectives.values import records, text

KEPT = 2
"""Number of checkpoints kept of a trial: the newest, and the one before in case of damage."""

_CHECKPOINT = re.compile(r"epoch-\d+\.npz")
_HEADER = "__header__"
_DIGEST_BYTES = 16


class CheckpointsError(HpoError):
    """Checkpoints cannot be written or read; this is not the trial's fault."""


def check_writable(checkpoints: Path) -> None:
    """Create the folder of all checkpoints; raise CheckpointsError if it is not writable."""
    probe = checkpoints / f".{uuid.uuid4().hex}"
    try:
        checkpoints.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"1")
        probe.unlink()
    except OSError as exc:
        raise CheckpointsError(
            f"checkpoints cannot be written to {checkpoints} ({exc.strerror or exc}): set HPO_CHECKPOINTS to a"
            " folder that this user may write to, with space left"
        ) from exc


@dataclass(frozen=True)
class Checkpoint:
    """State of a run at the end of an epoch."""

    epoch: int
    history: tuple[EpochRecord, ...]
    state: Mapping[str, Any]


@dataclass(frozen=True)
class SavedOutcome:
    """Outcome of a run that its agent may not have stored yet."""

    outcome: Outcome
    error: str
    traceback: str
    history: tuple[EpochRecord, ...]
    results: Mapping[str, Any] = field(default_factory=dict)


class CheckpointFolder:
    """The checkpoints of one trial."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._outcome_file = path / "ended.json"

    def write(self, history: Sequence[EpochRecord], state: Mapping[str, Any]) -> None:
        """Write `state` as the state after the last epoch of `history`; keep the newest `KEPT` files.

        Raises:
            DiskFullError: there is no space; earlier checkpoints are untouched.
            CheckpointsError: writing failed for another reason; the same holds.
        """
        arrays = {name: value for name, value in state.items() if isinstance(value, np.ndarray | np.generic)}
        header = {
            "history": [asdict(record) for record in history],
            "arrays": list(arrays),
            "scalars": [name for name, value in arrays.items() if isinstance(value, np.generic)],
            "values": {name: value for name, value in state.items() if name not in arrays},
        }
        # As bytes: NumPy stores a string array with four bytes a character.
        encoded = np.frombuffer(json.dumps(header).encode(), dtype=np.uint8)
        # By position: not every name that an objective may choose can be the name of a file.
        numbered = {str(index): value for index, value in enumerate(arrays.values())}
        final = self._file(len(history))

        def content(file: BinaryIO) -> None:
            digested = _Digested(file)
            np.savez(digested, allow_pickle=False, **numbered, **{_HEADER: encoded})
            file.write(digested.digest())

        self._write_atomically(final, content)
        unlink(self._outcome_file)
        # The state is saved: older files can be removed later.
        with suppress(CheckpointsError):
            files = self.files()
            # A newer file is damaged, or of a fenced writer: no trial resumes from it.
            kept = [path for path in files if path <= final][-KEPT:]
            for other in files:
                if other not in kept:
                    unlink(other)

    def save_outcome(self, saved: SavedOutcome) -> None:
        """Keep the trial's outcome until the folder is deleted; raise as `write` does."""
        content = json.dumps(asdict(saved)).encode()
        self._write_atomically(self._outcome_file, lambda file: file.write(content))

    def saved_outcome(self) -> SavedOutcome | None:
        """Return the outcome that was saved, unless the trial was trained further since."""
        try:
            values = json.loads(self._outcome_file.read_bytes())
            history = _history_of(values["history"])
            outcome, error, traceback = (
                Outcome(values["outcome"]),
                text(values["error"]),
                text(values["traceback"]),
            )
            saved = SavedOutcome(outcome, error, traceback, history, records(values.get("results", {})))
        # Missing, incomplete or of another format: the trial resumes from its checkpoint and ends again.
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None
        newest = self.files()[-1:]
        beyond = newest and newest[0] > self._file(len(history))
        return None if beyond or not outcome.counts else saved

    def _file(self, epoch: int) -> Path:
        return self.path / f"epoch-{epoch:06d}.npz"

    def _write_atomically(self, final: Path, content: Callable[[BinaryIO], object]) -> None:
        """Write a file completely or not at all, even in a power cut."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            # A fenced trainer may be writing the same epoch.
            with atomic_write(final) as partial, partial.open("wb") as file:
                content(file)
        except OSError as exc:
            raise self._unwritable(exc) from exc

    def _unwritable(self, exc: OSError) -> HpoError:
        if exc.errno in (errno.ENOSPC, errno.EDQUOT):
            return DiskFullError(
                f"no space left for checkpoints in {self.path.parent}: free some and run the same"
                " command again; trials resume from their last checkpoint"
            )
        return CheckpointsError(
            f"a checkpoint cannot be written to {self.path} ({exc.strerror or exc}): fix that, or set"
            " HPO_CHECKPOINTS to another folder, and run the same command again"
        )

    def newest(self, warn: Callable[[str], None] = lambda _: None) -> Checkpoint | None:
        """Return the newest complete checkpoint, or None; `warn` is called for each damaged one.

        Raises:
            CheckpointsError: the disk does not return the file.
            MemoryError: the file does not fit into memory.
        """
        for path in reversed(self.files()):
            try:
                found = _read(path)
            except FileNotFoundError:
                # A fenced trainer deletes files that it considers old.
                continue
            except OSError as exc:
                raise CheckpointsError(
                    f"the checkpoint {path} cannot be read ({exc.strerror or exc}): fix that and run the same"
                    " command again, or delete the file to continue without it"
                ) from exc
            except MemoryError:
                raise
            # Damaged bytes make the reading libraries raise anything.
            except Exception as exc:  # noqa: BLE001
                warn(f"the checkpoint {path} is damaged ({exc}): using the one before, if there is one")
                continue
            if found is not None:
                return found
            warn(f"the checkpoint {path} of version 0.1 does not name the epoch of its state: not used")
        return None

    def partial(self) -> list[Path]:
        """Return incomplete files, of trainers that were killed or are writing now."""
        return [path for path in self._entries() if path.name.endswith(PARTIAL)]

    def clear_partial(self) -> None:
        """Remove incomplete files; only the holder of the trial may do so."""
        for path in self.partial():
            unlink(path)

    def delete(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)

    def files(self) -> list[Path]:
        """Return the checkpoints, oldest first.

        Raises:
            CheckpointsError: the folder cannot be listed.
        """
        return sorted(path for path in self._entries() if _CHECKPOINT.fullmatch(path.name))

    def _entries(self) -> list[Path]:
        # No glob: in some versions of Python it returns nothing after an error.
        try:
            return list(self.path.iterdir())
        except FileNotFoundError:
            return []
        except OSError as exc:
            raise CheckpointsError(
                f"the checkpoints in {self.path} cannot be listed ({exc.strerror or exc}): fix that and run the same"
                " command again"
            ) from exc


def trial_folder(checkpoints: Path, study_folder: str, reservation_id: int) -> CheckpointFolder:
    """Return the folder of the trial with this reservation."""
    return CheckpointFolder(checkpoints / study_folder / f"trial-{reservation_id}")


def reservation_of(folder: Path) -> int | None:
    """Return the reservation of a trial's folder; None for another folder."""
    _, dash, reservation_id = folder.name.partition("trial-")
    return int(reservation_id) if dash and reservation_id.isdecimal() else None


def unlink(path: Path) -> None:
    """Remove a file that is no longer needed; errors do not matter."""
    with suppress(OSError):
        path.unlink()


def _read(path: Path) -> Checkpoint | None:
    # Opened here, because NumPy leaves a damaged file open.
    with path.open("rb") as raw:
        _check_digest(raw)
        return _parse(raw)


def _history_of(records: Sequence[Any]) -> tuple[EpochRecord, ...]:
    """Return the epochs of a history; raise ValueError, TypeError or KeyError if they are none, or one is missing."""
    history = tuple(map(epoch_record, records))
    if [record.epoch for record in history] != list(range(1, len(history) + 1)):
        raise ValueError("an epoch is missing")
    return history


def _parse(raw: BinaryIO) -> Checkpoint | None:
    """Return the content of a file; None for a file of version 0.1 whose state may be that of an earlier epoch."""
    with np.load(raw, allow_pickle=False) as file:
        header = json.loads(file[_HEADER].tobytes())
        history = _history_of(header["history"])
        if "arrays" not in header:
            arrays = {name: file[name] for name in file.files if name != _HEADER}
            return _trusted(Checkpoint(len(history), history, {**arrays, **header["values"]}))
        arrays = {name: file[str(index)] for index, name in enumerate(header["arrays"])}
    for name in header["scalars"]:
        arrays[name] = arrays[name][()]
    return Checkpoint(len(history), history, {**arrays, **header["values"]})


def _trusted(checkpoint: Checkpoint) -> Checkpoint | None:
    """Return a checkpoint of version 0.1 if its state names its epoch.

    That version wrote a file after every epoch, with the state saved last, of whichever epoch, or with none.
    """
    named = [
        value for value in checkpoint.state.values() if isinstance(value, int) and not isinstance(value, bool)
    ]
    return checkpoint if checkpoint.epoch in named else None


class _Digested:
    """A sequential file with a digest of the bytes written.

    It has no `seek`, so a zip is written in one pass.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._hash = hashlib.blake2b(digest_size=_DIGEST_BYTES)

    def write(self, data: Any) -> int:
        self._hash.update(data)
        return self._file.write(data)

    def read(self, _size: int = -1) -> bytes:
        """Raise: the method only makes NumPy accept the object as a file."""
        raise OSError(errno.EBADF, "this file is only written")

    def flush(self) -> None:
        self._file.flush()

    def digest(self) -> bytes:
        return self._hash.digest()


def _check_digest(file: BinaryIO) -> None:
    """Raise ValueError unless a file ends with the digest of its other bytes; rewind it."""
    left = os.fstat(file.fileno()).st_size - _DIGEST_BYTES
    found = hashlib.blake2b(digest_size=_DIGEST_BYTES)
    while left > 0 and (block := file.read(min(left, 1 << 20))):
        found.update(block)
        left -= len(block)
    if left or file.read() != found.digest():
        raise ValueError("the file is damaged")
    file.seek(0)
