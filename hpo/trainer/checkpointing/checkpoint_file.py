"""The file of a checkpoint: a NumPy `.npz`, followed by a digest.

It holds the state that an objective saved after an epoch and, as JSON, the epochs up to it.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import stat
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from hpo.trainer.checkpointing.nested_arrays import packed, unpacked
from hpo.trainer.messages import EpochRecord
from hpo.trainer.pipe import epoch_record
from objectives.data.npz import checked_bytes
from objectives.states import is_extension
from objectives.values import text

_HEADER = "__header__"
_DIGEST_BYTES = 16


@dataclass(frozen=True)
class Checkpoint:
    """State of a run at the end of an epoch."""

    epoch: int
    history: tuple[EpochRecord, ...]
    state: Mapping[str, Any]
    codes: tuple[str, ...] = ("",)
    """Digests of the objective's code that has trained these epochs; an empty one: not recorded."""


def write(
    file: BinaryIO, history: Sequence[EpochRecord], state: Mapping[str, Any], codes: Sequence[str] = ("",)
) -> None:
    """Write a checkpoint into a new file."""
    arrays: list[Any] = []
    packed_state = packed(dict(state), arrays)
    header = {
        "history": [asdict(record) for record in history],
        "codes": list(codes),
        "state": packed_state,
        "scalars": [index for index, value in enumerate(arrays) if isinstance(value, np.generic)],
        "types": {index: value.dtype.name for index, value in enumerate(arrays) if is_extension(value.dtype)},
    }
    # As bytes: NumPy stores a string array with four bytes a character.
    encoded = np.frombuffer(json.dumps(header).encode(), dtype=np.uint8)
    # By position: not every name that an objective may choose can be the name of a file.
    numbered = {str(index): value for index, value in enumerate(arrays)}
    digested = _Digested(file)
    np.savez(digested, allow_pickle=False, **numbered, **{_HEADER: encoded})
    file.write(digested.digest())


def read(path: Path) -> Checkpoint | None:
    """Return the content of a file; None for a file of version 0.1 whose state may be that of an earlier epoch.

    Raises:
        Exception: the file is damaged; of any class.
    """
    # Opened here, because NumPy leaves a damaged file open.
    with opened(path) as raw:
        _check_digest(raw)
        return _parse(raw)


def opened(path: Path) -> BinaryIO:
    """Open a file for reading; raise ValueError if it is a pipe or a device, which may never end.

    Not blocking: opening a pipe waits for its writer.
    """
    file = os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb")
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise ValueError("it is not a file")
    return file


def history_of(records: Sequence[Any]) -> tuple[EpochRecord, ...]:
    """Return the epochs of a history; raise ValueError, TypeError or KeyError if one is invalid or missing."""
    history = tuple(map(epoch_record, records))
    if [record.epoch for record in history] != list(range(1, len(history) + 1)):
        raise ValueError("an epoch is missing")
    return history


def _parse(raw: BinaryIO) -> Checkpoint | None:
    with np.load(raw, allow_pickle=False) as file:
        # A small file that was made to harm may claim to hold terabytes; ours are not compressed.
        if sum(member.file_size for member in file.zip.infolist()) > os.fstat(raw.fileno()).st_size:
            raise ValueError("the file holds more than its size")
        for name in file.files:
            checked_bytes(file.zip, name)
        header = json.loads(file[_HEADER].tobytes())
        history = history_of(header["history"])
        stored = {name: file[name] for name in file.files if name != _HEADER}
    codes = tuple(map(text, header.get("codes", ("",))))
    if "state" in header:
        arrays = _arrays([stored[str(index)] for index in range(len(stored))], header)
        return Checkpoint(len(history), history, unpacked(header["state"], arrays), codes)
    if "arrays" not in header:
        return _trusted(Checkpoint(len(history), history, {**stored, **header["values"]}))
    return Checkpoint(len(history), history, _flat_state(stored, header), codes)


def _arrays(stored: list[Any], header: Mapping[str, Any]) -> list[Any]:
    """Return arrays with the types that a file of NumPy does not keep, and scalars as such."""
    for index, kind in header["types"].items():
        stored[int(index)] = _typed(stored[int(index)], kind)
    for index in header["scalars"]:
        stored[index] = stored[index][()]
    return stored


def _typed(array: Any, kind: str) -> Any:
    import ml_dtypes

    return array.view(getattr(ml_dtypes, kind))


def _flat_state(stored: Mapping[str, Any], header: Mapping[str, Any]) -> dict[str, Any]:
    """Return the state of a file in which only whole values were arrays, as earlier revisions wrote it."""
    arrays = {name: stored[str(index)] for index, name in enumerate(header["arrays"])}
    for name, kind in header.get("types", {}).items():
        arrays[name] = _typed(arrays[name], kind)
    for name in header["scalars"]:
        arrays[name] = arrays[name][()]
    return {**arrays, **header["values"]}


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
