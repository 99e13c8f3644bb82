"""Data sets of arrays in files: an .npz archive, or a folder of .npy files.

Arrays are named `x_train`, `y_train` and likewise for `val` and `test`; a model with several inputs has
`x_train/<input>`. `group_train` divides the training rows into groups, which no other split may share if it has groups
too, and `classes` names the classes. Large arrays are mapped read-only.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import psutil
from numpy.typing import NDArray

from hpo.errors import DataDamagedError, HpoError
from objectives.data import arrays, inputs
from objectives.data.arrays import VALIDATION, Arrays
from objectives.data.conversion.objects import as_array
from objectives.data.errors import ArrayInvalidError
from objectives.data.inputs import Inputs, Shape, check_finite
from objectives.data.npz import Archive, read_header
from objectives.data_options import TaskName

CLASSES, _GROUP = "classes", "group_"
_SPLITS = ("train", "test", *VALIDATION)
_SUFFIX = ".npy"
_PARENTHESES = re.compile(r"\(.*?\)")


class _Files(Protocol):
    @property
    def names(self) -> list[str]: ...

    def header(self, name: str) -> tuple[Shape, np.dtype[Any]]: ...

    def in_memory(self, name: str, folder: Path | None) -> int: ...

    def read(self, name: str, folder: Path | None) -> NDArray[Any]: ...


class _Folder:
    """A folder of .npy files."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @property
    def names(self) -> list[str]:
        """Names of the arrays, sorted."""
        files = [*self._path.glob(f"*{_SUFFIX}"), *self._path.glob(f"x_*/*{_SUFFIX}")]
        return sorted(file.relative_to(self._path).as_posix().removesuffix(_SUFFIX) for file in files)

    def header(self, name: str) -> tuple[Shape, np.dtype[Any]]:
        """Return shape and type of an array."""
        with self._file(name).open("rb") as file:
            shape, _, dtype = read_header(file)
        return shape, dtype

    def in_memory(self, name: str, folder: Path | None) -> int:  # noqa: ARG002 - as of an archive
        """Return the bytes of memory that `read` takes for an array."""
        size = self._file(name).stat().st_size
        return 0 if size > inputs.LARGE_BYTES else size

    def read(self, name: str, folder: Path | None) -> NDArray[Any]:  # noqa: ARG002
        """Return an array; a large one is mapped."""
        file = self._file(name)
        if self.header(name)[1].hasobject:
            raise ArrayInvalidError(
                f"{name} has Python objects: save strings as array.astype('U'), and numbers as a numeric array"
            )
        large = file.stat().st_size > inputs.LARGE_BYTES
        return np.asarray(np.load(file, mmap_mode="r" if large else None, allow_pickle=False))

    def _file(self, name: str) -> Path:
        return self._path / f"{name}{_SUFFIX}"


@dataclass(frozen=True, kw_only=True)
class Contents:
    """The arrays of a data set in files, known from their headers."""

    rows: dict[str, int]
    """Number of rows of each split (`train`, `valid`, `test`) that there is."""
    inputs: dict[str, str]
    """Type and shape of a training example by the name of its input; the name of a single one is empty."""
    files: tuple[Path, ...]
    """The files that hold them."""


def is_array_data(path: Path) -> bool:
    """Return whether a path is that of an .npz file, or of a folder of .npy files."""
    try:
        if path.suffix.lower() == ".npz":
            return path.is_file()
        return path.is_dir() and any(path.glob(f"[xy]_*{_SUFFIX}"))
    except OSError:
        return False


def contents(path: Path) -> Contents:
    """Return the contents of a data set, known from its headers.

    Raises:
        DataDamagedError: an array is missing, or its header cannot be read.
    """
    with _opened(path) as found:
        splits = _splits(found.names)
        rows = {
            "valid" if split in VALIDATION else split: found.header(names[0])[0][:1]
            for split, (names, _) in splits.items()
        }
        shapes = {}
        for name in splits["train"][0]:
            shape, dtype = found.header(name)
            values = "×".join(map(str, shape[1:])) or "one value"
            shapes[name.partition("/")[2]] = f"{values}, {'text' if dtype.kind in 'US' else dtype.name}"
        return Contents(
            rows={split: shape[0] if shape else 0 for split, shape in rows.items()},
            inputs=shapes,
            files=(path,)
            if path.is_file()
            else tuple(path / f"{name}{_SUFFIX}" for name in _used(found.names)),
        )


def read(
    path: Path,
    names: Sequence[str] | None,
    test: bool,
    task: TaskName = "classes",
    folder: Path | None = None,
) -> Arrays:
    """Return the arrays of an .npz file or a folder of .npy files; the test set is only checked unless `test`.

    Large arrays that have to be converted are written to `folder`, if given.

    Raises:
        DataDamagedError: a file cannot be read, its arrays are invalid, or they are larger than free memory.
        DiskFullError: there is no space in `folder`.
    """
    with _opened(path) as found:
        splits = _splits(found.names)
        _check_memory(path, found, splits, folder)
        pairs = {
            split: (_inputs(found, x, folder), found.read(y, folder)) for split, (x, y) in splits.items()
        }
        if names is None and CLASSES in found.names:
            names = [str(name) for name in as_array(found.read(CLASSES, folder), CLASSES)]
        loaded = arrays.checked(pairs, task, names, folder, test=test)
        return replace(loaded, groups=_groups(found, {split: y for split, (_, y) in splits.items()}))


@contextmanager
def _opened(path: Path) -> Iterator[_Files]:
    """Open a data set within this block, whose errors name the path.

    Raises:
        DataDamagedError: it cannot be read, or the block finds it invalid.
    """
    try:
        if path.is_dir() and path.suffix.lower() != ".npz":
            yield _Folder(path)
        else:
            with path.open("rb") as file:
                yield Archive(path, file)
    except HpoError:
        raise
    # A damaged archive makes NumPy and its decompressors raise anything.
    except Exception as exc:
        reason = str(exc) if isinstance(exc, ArrayInvalidError) else f"it cannot be read ({_one_line(exc)})"
        # Such as another task, which is more likely than other arrays.
        advised = ": " in _PARENTHESES.sub("", reason)
        raise DataDamagedError(
            f"data {path} cannot be used: {reason}{', or' if advised else ';'} write it again with valid arrays"
            f" {', '.join(arrays.NAMES)}"
        ) from exc


def _splits(present: Sequence[str]) -> dict[str, tuple[list[str], str]]:
    """Return the names of the arrays by split: those of its inputs, and that of its targets.

    Raises:
        ArrayInvalidError: one is missing, or would not be used.
    """
    found: dict[str, tuple[list[str], str]] = {}
    for split in _SPLITS:
        x = [name for name in present if name == f"x_{split}" or name.startswith(f"x_{split}/")]
        if x and f"y_{split}" in present:
            found[split] = (x, f"y_{split}")
        if len(x) > 1 and f"x_{split}" in x:
            raise ArrayInvalidError(
                f"it has x_{split} next to x_{split}/…: name each input x_{split}/<input>"
            )
    known = {name for x, y in found.values() for name in (*x, y)}
    unused = [name for name in present if name.startswith(("x_", "y_")) and name not in known]
    if "train" not in found:
        absent = [
            name for name in ("x_train", "y_train") if not any(n.partition("/")[0] == name for n in present)
        ]
        raise ArrayInvalidError(f"it has no array {', '.join(absent)}")
    # Data that were held out on purpose must not be ignored.
    if unused:
        pairs = (
            "name validation arrays x_val and y_val, test arrays x_test and y_test, and each pair needs both"
        )
        raise ArrayInvalidError(f"it has {', '.join(unused)}, which would not be used ({pairs})")
    own = [split for split in found if split in VALIDATION]
    if len(own) > 1:
        raise ArrayInvalidError(f"it has several validation sets ({', '.join(own)}): leave one")
    return found


def _used(present: Sequence[str]) -> list[str]:
    groups = {f"{_GROUP}{split}" for split in _SPLITS}
    return [name for name in present if name.startswith(("x_", "y_")) or name in {CLASSES, *groups}]


def _inputs(found: _Files, names: Sequence[str], folder: Path | None) -> Inputs:
    if "/" not in names[0]:
        return found.read(names[0], folder)
    return {name.partition("/")[2]: found.read(name, folder) for name in names}


def _groups(found: _Files, targets: Mapping[str, str]) -> NDArray[np.int64] | None:
    """Return the number of the group of each training row; None if the data have no groups.

    Raises:
        ArrayInvalidError: a group is in two splits, or an array of groups does not fit its split.
    """
    given = {split: f"{_GROUP}{split}" for split in _SPLITS if f"{_GROUP}{split}" in found.names}
    if not given:
        return None
    absent = [f"y_{split}" for split in given if split not in targets]
    if "train" not in given:
        absent.append(f"{_GROUP}train")
    if absent:
        raise ArrayInvalidError(
            f"it has {', '.join(given.values())} and no {absent[0]}: add it, or leave the groups out"
        )
    values = {name: _group_of_rows(found, name, targets[split]) for split, name in given.items()}
    for one, other in combinations(values, 2):
        shared = np.intersect1d(values[one], values[other])
        if len(shared):
            raise ArrayInvalidError(
                f"{one} and {other} share the group {str(shared[0])!a}: give all rows of a group the same split"
            )
    return np.unique(values[f"{_GROUP}train"], return_inverse=True)[1].reshape(-1).astype(np.int64)


def _group_of_rows(found: _Files, name: str, targets: str) -> NDArray[Any]:
    values, rows = as_array(found.read(name, None), name), found.header(targets)[0][0]
    if values.shape not in ((rows,), (rows, 1)):
        raise ArrayInvalidError(
            f"{name} is {values.dtype} of {values.shape}, not one group for each of {rows} rows"
        )
    if values.dtype.kind == "f":
        check_finite(values, name)
    return values.reshape(-1)


def _check_memory(
    path: Path, found: _Files, splits: dict[str, tuple[list[str], str]], folder: Path | None
) -> None:
    """Check, before memory is taken for them, that the arrays are as large as their headers state, and fit."""
    names = [name for x, y in splits.values() for name in (*x, y)]
    for name in names:
        found.header(name)
    total = sum(found.in_memory(name, folder) for name in names)
    free = psutil.virtual_memory().available
    if total > free:
        raise DataDamagedError(
            f"the arrays of data file {path} take {total / 2**30:.1f} GiB, and {free / 2**30:.1f} GiB of memory are"
            " free: save them uncompressed (np.savez, or a folder of .npy files), or use a host with more memory"
        )


def _one_line(exc: Exception) -> str:
    return " ".join(str(exc).split()) or type(exc).__name__
