"""The objects of an objective that was defined in a notebook, as a file next to the module that stands for it.

A payload is a pickle, that is, code. It is read only where an objective's file would be loaded, and only if no other
user could have written it.
"""

from __future__ import annotations

import json
import os
import pickle
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import IO, Any

from hpo.errors import HpoError, ObjectiveBrokenError, ObjectiveFileError
from hpo.files.atomic import atomic_write
from hpo.ownership import open_private, replaceable_by_others
from hpo.settings import OF_OBJECTIVE
from hpo.user_code import is_shared

MOST_BYTES = 2 * 1024**3
"""Largest payload: larger data belong into files."""

FOLDERS = "folders.json"
"""File with the folders from which the objects' modules are imported."""


class PayloadError(HpoError):
    """An objective, or a value that it uses, cannot be carried to the processes of the trials."""


def write_payload(path: Path, objects: Mapping[str, Any]) -> None:
    """Write objects by name, those that other processes cannot import by their values.

    Raises:
        PayloadError: one of them cannot be pickled.
        TooLargeError: all take more than `MOST_BYTES`.
    """
    from hpo.python.pickling import Pickler

    with atomic_write(path) as partial, _new_file(partial) as file:
        Pickler(_Limited(file), protocol=pickle.DEFAULT_PROTOCOL).dump(dict(objects))


def write_folders(path: Path, folders: Sequence[Path]) -> None:
    """Write the folders from which modules of the objects are imported."""
    with atomic_write(path) as partial:
        write_text(partial, json.dumps([str(folder) for folder in folders]))


def write_text(path: Path, text: str) -> None:
    """Write a new file that only its user can read."""
    with _new_file(path) as file:
        file.write(text.encode(errors="backslashreplace"))


def load_payload(module: str, name: str, version: str) -> dict[str, Any]:
    """Return the objects of the payload `name` next to the file of `module`, which Python `version` wrote.

    Raises:
        ObjectiveBrokenError: it is missing, or another version of Python wrote it.
        ObjectiveFileError: other users could have written it.
    """
    path = Path(module).with_name(name)
    if version != python_version():
        raise ObjectiveBrokenError(
            f"it was defined in Python {version}, and this is Python {python_version()}: use the same version on every"
            " host, or call hpo.launch() again with this one"
        )
    if not path.is_file():
        raise ObjectiveBrokenError(
            f"there is no file {path}: copy the whole folder from the host on which hpo.launch() was called"
        )
    for file in (path, path.with_name(FOLDERS)):
        reason = replaceable_by_others(file)
        if reason is not None:
            raise ObjectiveFileError(f"{file} is not read, because {reason}: correct the owner or the mode")
    _import_from(json.loads(path.with_name(FOLDERS).read_text(encoding="utf-8")))
    with path.open("rb") as opened:
        found: dict[str, Any] = pickle.load(opened)
    if os.environ.get(OF_OBJECTIVE):
        # The notebook's main module, by which processes of a pool find its functions, in the place of the service's.
        main = sys.modules["__main__"] = ModuleType("__main__")
        for value in found.values():
            vars(main).update(_of_main(value))
    return found


def python_version() -> str:
    """Return the version of Python as far as pickled functions depend on it."""
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def _of_main(value: Any) -> dict[str, Any]:
    """Return the functions and classes of the notebook that a function or class knows, by their names there."""
    members = [value, *(vars(value).values() if isinstance(value, type) else ())]
    known = {getattr(value, "__name__", ""): value}
    for member in members:
        known |= getattr(member, "__globals__", {})
    return {
        name: found
        for name, found in known.items()
        if getattr(found, "__module__", None) == "__main__" and getattr(found, "__qualname__", None) == name
    }


def _import_from(folders: Sequence[str]) -> None:
    """Let modules be imported from folders in which only their owner may put files, after all others."""
    for folder in folders:
        path = Path(folder)
        usable = path.is_dir() and not is_shared(path) and replaceable_by_others(path) is None
        if usable and folder not in sys.path:
            sys.path.append(folder)


def _new_file(path: Path) -> IO[bytes]:
    return os.fdopen(open_private(path, os.O_WRONLY | os.O_EXCL), "wb")


class _Limited:
    """A file to which at most `MOST_BYTES` are written."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._left = MOST_BYTES

    def write(self, data: Any) -> int:
        """Write bytes or a buffer."""
        size = memoryview(data).nbytes
        self._left -= size
        if self._left < 0:
            raise TooLargeError
        return self._file.write(data)


class TooLargeError(Exception):
    """The objects take more than `MOST_BYTES`."""
