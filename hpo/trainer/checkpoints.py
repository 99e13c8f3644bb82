"""Where an interrupted trial goes on: one folder a trial, one file an epoch, written atomically.

A file is a NumPy `.npz` that holds the state an objective saved and, as JSON, the epochs trained so
far, followed by a digest of all that. It is written beside its final name, synced and renamed, so a file
with the final name is whole unless the disk itself fails; should one be damaged all the same, the digest
says so, and the one before is used. One that cannot be read just now, for the disk does not answer, is not
damaged: whoever took it for that would begin again, and delete it.

How a trial ended is kept beside them in the same way until its agent has it in the database.
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
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from hpo.errors import DiskFullError, HpoError
from hpo.files.atomic import PARTIAL, atomic_write
from hpo.outcomes import Outcome
from hpo.trainer.messages import EpochRecord

KEPT = 2
"""Checkpoints kept of a trial: the newest, and the one before in case the newest is damaged."""

_CHECKPOINT = re.compile(r"epoch-\d+\.npz")
_HEADER = "__header__"
_DIGEST_BYTES = 16


class CheckpointsError(HpoError):
    """The disk does not do what checkpoints need; no trial is to blame for it."""


class CheckpointsUnwritableError(CheckpointsError):
    """Nothing can be written where checkpoints belong."""


class CheckpointsUnreadableError(CheckpointsError):
    """What is there cannot be read."""


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


@dataclass(frozen=True)
class Ended:
    """How a trial ended, of which the database may not know yet."""

    outcome: Outcome
    error: str
    traceback: str
    history: tuple[EpochRecord, ...]


class CheckpointFolder:
    """The checkpoints of one trial."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._ended = path / "ended.json"

    def write(self, history: Sequence[EpochRecord], state: Mapping[str, Any]) -> None:
        """Keep `state` as the end of the last epoch of `history`; older files than `KEPT` go.

        Raises:
            DiskFullError: there is no space; what was there before is untouched.
            CheckpointsUnwritableError: it cannot be written for another reason; the same holds.
        """
        epoch = history[-1].epoch
        arrays = {name: value for name, value in state.items() if isinstance(value, np.ndarray)}
        header = {
            "history": [asdict(record) for record in history],
            "values": {name: value for name, value in state.items() if name not in arrays},
        }
        # As bytes, not as a string array: NumPy stores those with four bytes a character.
        arrays[_HEADER] = np.frombuffer(json.dumps(header).encode(), dtype=np.uint8)
        final = self._file(epoch)

        def content(file: BinaryIO) -> None:
            digested = _Digested(file)
            np.savez(digested, allow_pickle=False, **arrays)
            file.write(digested.digest())

        self._write_whole(final, content)
        _unlink(self._ended)
        # It is saved: that others cannot be removed just now harms nothing.
        with suppress(CheckpointsUnreadableError):
            files = self.files()
            # What is newer is of a writer that was fenced, or was found damaged: nobody goes on from there.
            kept = [path for path in files if path <= final][-KEPT:]
            for other in files:
                if other not in kept:
                    _unlink(other)

    def end(self, ended: Ended) -> None:
        """Keep how the trial ended until the folder goes; raises as `write` does."""
        text = json.dumps(asdict(ended))
        self._write_whole(self._ended, lambda file: file.write(text.encode()))

    def ended(self) -> Ended | None:
        """How the trial ended, when that was kept and nothing was trained beyond it."""
        try:
            values = json.loads(self._ended.read_bytes())
            history = tuple(EpochRecord(**record) for record in values.pop("history"))
            ended = Ended(Outcome(values.pop("outcome")), **values, history=history)
        # Not there, not whole, or not ours: the trial goes on from its checkpoint, and ends once more.
        except (OSError, ValueError, KeyError, TypeError):
            return None
        newest = self.files()[-1:]
        beyond = newest and newest[0] > self._file(len(history))
        return None if beyond else ended

    def _file(self, epoch: int) -> Path:
        return self.path / f"epoch-{epoch:06d}.npz"

    def _write_whole(self, final: Path, content: Callable[[BinaryIO], object]) -> None:
        """Write a file such that it is there whole or not at all, after a power cut too."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            # One that was fenced may be writing the same epoch.
            with atomic_write(final) as partial, partial.open("wb") as file:
                content(file)
        except OSError as exc:
            raise self._unwritable(exc) from exc

    def _unwritable(self, exc: OSError) -> HpoError:
        if exc.errno in (errno.ENOSPC, errno.EDQUOT):
            return DiskFullError(
                f"no space left for checkpoints in {self.path.parent}: free some and run the same"
                " command again; trials go on from their last checkpoint"
            )
        return CheckpointsUnwritableError(
            f"a checkpoint cannot be written to {self.path} ({exc.strerror or exc}): mend that, or set"
            " HPO_CHECKPOINTS to another folder, and run the same command again"
        )

    def newest(self, say: Callable[[str], None] = lambda _: None) -> Checkpoint | None:
        """The newest checkpoint that is whole; None where there is none. `say` is told of damaged ones.

        Raises:
            CheckpointsUnreadableError: the disk does not give out what it holds.
            MemoryError: there is not enough for what it holds.
        """
        for path in reversed(self.files()):
            try:
                return _read(path)
            except FileNotFoundError:
                # A trainer that was fenced deletes what it takes for old.
                continue
            except OSError as exc:
                raise CheckpointsUnreadableError(
                    f"the checkpoint {path} cannot be read ({exc.strerror or exc}): mend that and run the same"
                    " command again, or delete the file to go on without it"
                ) from exc
            except MemoryError:
                raise
            # Whatever damaged bytes make the reading libraries raise.
            except Exception as exc:  # noqa: BLE001
                say(
                    f"the checkpoint {path} is damaged ({exc}): going on from the one before, if there is one"
                )
        return None

    def partial(self) -> list[Path]:
        """What trainers have not written whole: those that were killed, or that are writing now."""
        return [path for path in self._entries() if path.name.endswith(PARTIAL)]

    def clear_partial(self) -> None:
        """Remove what was not written whole; only for who holds the trial: others write there."""
        for path in self.partial():
            _unlink(path)

    def delete(self) -> None:
        """Remove the folder and all that is in it."""
        shutil.rmtree(self.path, ignore_errors=True)

    def files(self) -> list[Path]:
        """Its checkpoints, oldest first.

        Raises:
            CheckpointsUnreadableError: the disk does not say.
        """
        return sorted(path for path in self._entries() if _CHECKPOINT.fullmatch(path.name))

    def _entries(self) -> list[Path]:
        # Not by a glob, which takes an error for an empty folder, or not, as Python's versions have it.
        try:
            return list(self.path.iterdir())
        except FileNotFoundError:
            return []
        except OSError as exc:
            raise CheckpointsUnreadableError(
                f"the checkpoints in {self.path} cannot be listed ({exc.strerror or exc}): mend that and run the same"
                " command again"
            ) from exc


def trial_folder(checkpoints: Path, study_folder: str, reservation_id: int) -> CheckpointFolder:
    """The folder of the trial that holds this share of the study's budget."""
    return CheckpointFolder(checkpoints / study_folder / f"trial-{reservation_id}")


def reservation_of(folder: Path) -> int | None:
    """The reservation_id of the trial whose folder this is; None for another folder."""
    _, dash, reservation_id = folder.name.partition("trial-")
    return int(reservation_id) if dash and reservation_id.isdecimal() else None


def _unlink(path: Path) -> None:
    """Remove a file that nobody needs, where the disk lets us: what matters has been written, or could not be."""
    with suppress(OSError):
        path.unlink()


def _read(path: Path) -> Checkpoint:
    # Opened here, for NumPy leaves the file open when it cannot make sense of it.
    with path.open("rb") as raw:
        _check_digest(raw)
        return _parse(raw)


def _parse(raw: BinaryIO) -> Checkpoint:
    with np.load(raw, allow_pickle=False) as file:
        header = json.loads(file[_HEADER].tobytes())
        state = {name: file[name] for name in file.files if name != _HEADER}
    history = tuple(EpochRecord(**record) for record in header["history"])
    return Checkpoint(history[-1].epoch, history, {**state, **header["values"]})


class _Digested:
    """A file to write to from beginning to end, and a digest of what was written.

    It cannot seek, and says so by having no such method: a zip is then written in one go.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._hash = hashlib.blake2b(digest_size=_DIGEST_BYTES)

    def write(self, data: Any) -> int:
        self._hash.update(data)
        return self._file.write(data)

    def read(self, _size: int = -1) -> bytes:
        """By this NumPy knows a file from a path."""
        raise OSError(errno.EBADF, "this file is only written")

    def flush(self) -> None:
        self._file.flush()

    def digest(self) -> bytes:
        return self._hash.digest()


def _check_digest(file: BinaryIO) -> None:
    """Raise ValueError where the last bytes of a file are not the digest of those before; rewinds it."""
    left = os.fstat(file.fileno()).st_size - _DIGEST_BYTES
    found = hashlib.blake2b(digest_size=_DIGEST_BYTES)
    while left > 0 and (block := file.read(min(left, 1 << 20))):
        found.update(block)
        left -= len(block)
    if left or file.read() != found.digest():
        raise ValueError("the file is damaged")
    file.seek(0)
