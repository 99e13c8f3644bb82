"""Data sets verified: their files read whole, their arrays, and the classes that lack examples."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hpo.errors import DataDamagedError, UsageError
from objectives.data import array_files, inputs
from objectives.data.datasets import class_names, file_of, load, read_file
from objectives.data.shipped import SHIPPED
from objectives.data.targets import Targets
from objectives.data_options import TaskName


@dataclass(frozen=True, kw_only=True)
class FileReport:
    """Result of `verify`."""

    name: str
    path: Path | None
    """Path of the file; None: the data is bundled or in Keras' own cache."""
    sha256: str | None
    arrays: Mapping[str, str]
    """Array names to type and shape."""
    class_counts: Mapping[str, tuple[int, ...]]
    """`train`, `test` and, where the file has it, `valid` to the number of examples of each class or label;
    empty for a regression."""
    problems: tuple[str, ...] = ()


def verify(name: str, data_dir: str | Path | None, task: TaskName = "classes") -> FileReport:
    """Read a whole data set and report its content; an invalid file is a problem in the report, not an exception.

    `name` is that of a data set, or the path of an .npz file or a folder of .npy files. Targets are checked as those
    of `task`.

    Raises:
        UsageError: no data set of that name is shipped, and there is no file.
        DataMissingError: the data set is not on this machine and cannot be downloaded.
    """
    path = file_of(name, data_dir)
    own = Path(name).expanduser()
    if path is None or not path.exists():
        path = own if name not in SHIPPED and array_files.is_array_data(own) else None
        if path is None and name not in SHIPPED:
            raise UsageError(
                f"unknown data set {name!r}: use one of {', '.join(SHIPPED)}, the name of a file"
                " HPO_DATA_DIR/<name>.npz, or the path of an .npz file or a folder of .npy files"
            )
    digest = _sha256(path) if path and path.is_file() else None
    try:
        loaded = read_file(name, path, None, True, task) if path == own else load(name, data_dir, task=task)
    except DataDamagedError as exc:
        return FileReport(
            name=name, path=path, sha256=digest, arrays={}, class_counts={}, problems=(str(exc),)
        )
    pairs = {
        "train": (loaded.x_train, loaded.y_train),
        "valid": (loaded.x_valid, loaded.y_valid),
        "test": (loaded.x_test, loaded.y_test),
    }
    present = {split: (x, y) for split, (x, y) in pairs.items() if x is not None and y is not None}
    classes = len(loaded.classes or class_names(name) or np.unique(loaded.y_train))
    counts = {split: _counts(y, task, classes) for split, (_, y) in present.items() if task != "regression"}
    kind = "label" if task == "labels" else "class"
    problems = tuple(
        f"there is no {split} example of {kind} {label}"
        for split, numbers in counts.items()
        for label, number in enumerate(numbers)
        if number == 0
    )
    shapes = {
        f"{kind}_{split}{'/' if key else ''}{key}": f"{array.dtype} {array.shape}"
        for split, pair in present.items()
        for kind, part in zip("xy", pair, strict=True)
        for key, array in inputs.each(part).items()
    }
    return FileReport(
        name=name, path=path, sha256=digest, arrays=shapes, class_counts=counts, problems=problems
    )


def _counts(y: Targets, task: TaskName, classes: int) -> tuple[int, ...]:
    found = y.sum(axis=0, dtype=np.int64) if task == "labels" else np.bincount(y, minlength=classes)
    return tuple(found.tolist())


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
