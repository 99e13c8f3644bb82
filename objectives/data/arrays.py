"""The arrays of an image data set: read from a file or a function, and validated."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from numpy.typing import NDArray

from hpo.errors import DataDamagedError
from objectives.data.npz import ArrayInvalidError, checked_bytes

Images = NDArray[np.uint8]
Labels = NDArray[np.int64]
ChannelStatistics = tuple[tuple[float, ...], tuple[float, ...]]
"""Mean and standard deviation of each channel, pixels scaled to 0..1."""

NAMES = ("x_train", "y_train", "x_test", "y_test")
"""Names of the arrays in a file: the layout of `keras.datasets`."""

_VALIDATION = ("val", "valid", "validation")
"""Names of the optional validation arrays in a file, after `x_` and `y_`."""


class _Invalid(Exception):
    """A mistake in the arrays, as the end of a sentence."""


@dataclass(frozen=True)
class Arrays:
    """Images as uint8 (n, height, width, channels), labels as int64 (n,)."""

    x_train: Images
    y_train: Labels
    x_test: Images | None = None
    y_test: Labels | None = None
    x_valid: Images | None = None
    """Validation images of the data set's own; None: training images are held out instead."""
    y_valid: Labels | None = None
    statistics: ChannelStatistics | None = None
    """Mean and deviation of all training images, if they are known; else they are computed."""
    has_test: bool = True
    """Whether there is a test set, loaded or not."""


def read(path: Path, class_count: int | None, test: bool) -> Arrays:
    """Read the arrays of an .npz file, its `x_val` and `y_val` included; reads the test arrays only if `test`.

    Raises:
        DataDamagedError: the file cannot be read, its arrays are invalid, or they are larger than free memory.
    """
    try:
        # Opened here, because np.load leaves a file open that is no archive.
        with path.open("rb") as file:
            archive = np.load(file, allow_pickle=False)
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise _Invalid("it is not an .npz archive")
            names = _names(archive.files, test)
            assert archive.zip is not None
            _check_sizes(path, archive.zip, names)
            return checked([archive[name] for name in names["train"]], class_count, _pairs(archive, names))
    except DataDamagedError:
        raise
    # A damaged archive makes NumPy and its decompressors raise anything.
    except Exception as exc:
        reason = (
            str(exc)
            if isinstance(exc, _Invalid | ArrayInvalidError)
            else f"it cannot be read ({_one_line(exc)})"
        )
        raise DataDamagedError(
            f"data file {path} is damaged: {reason}; delete it and fetch it again "
            f"(hpo data fetch {path.stem}), or replace it by a file with valid {', '.join(NAMES)}"
        ) from exc


def call(function: Callable[[], Any], class_count: int | None, test: bool) -> Arrays:
    """Return the arrays of a user's function: pairs of images and labels.

    One pair is the training set, two are the training and the test set, three the training, validation and test set.

    Raises:
        DataDamagedError: the function returns something else.
    """
    where = f"data function {getattr(function, '__name__', repr(function))}"
    returned = function()
    pairs = [returned] if _is_pair_of_arrays(returned) else returned
    if not (isinstance(pairs, tuple | list) and pairs and all(_is_pair_of_arrays(pair) for pair in pairs)):
        raise DataDamagedError(
            f"{where} must return (x_train, y_train), (x_test, y_test) as NumPy arrays, or the first pair, or three"
            " pairs with (x_val, y_val) as the second"
        )
    if len(pairs) > 3:
        raise DataDamagedError(
            f"{where} returns {len(pairs)} pairs of arrays: return one (training), two (training, test) or three"
            " (training, validation, test)"
        )
    if test and len(pairs) < 2:
        raise DataDamagedError(f"{where} returns no test set, but retraining needs one: return a second pair")
    try:
        named = dict(
            zip(("train", "val", "test") if len(pairs) == 3 else ("train", "test"), pairs, strict=False)
        )
        if not test:
            named.pop("test", None)
        return replace(checked(named.pop("train"), class_count, named), has_test=len(pairs) > 1)
    except _Invalid as exc:
        raise DataDamagedError(f"{where} returns invalid data: {exc}") from exc


def checked(
    train: Sequence[NDArray[Any]],
    class_count: int | None,
    more: Mapping[str, Sequence[NDArray[Any]]] | None = None,
) -> Arrays:
    """Return training arrays, and those of `more` by the names of their splits, validated in one shape and type."""
    x_train, y_train = _checked_pair("train", train[0], train[1], class_count)
    found: dict[str, tuple[Images, Labels]] = {}
    for split, (x, y) in (more or {}).items():
        found[split] = _checked_pair(split, x, y, class_count or int(y_train.max()) + 1)
        shape = found[split][0].shape[1:]
        if shape != x_train.shape[1:]:
            raise _Invalid(f"x_{split} holds images of {shape}, x_train of {x_train.shape[1:]}")
    absent = (None, None)
    return Arrays(x_train, y_train, *found.pop("test", absent), *next(iter(found.values()), absent))


def _names(present: Sequence[str], test: bool) -> dict[str, tuple[str, str]]:
    """Return the names of the arrays to read, images and labels, by split."""
    absent = [name for name in NAMES if name not in present]
    if absent:
        raise _Invalid(f"it has no array {', '.join(absent)}")
    pairs = {split: (f"x_{split}", f"y_{split}") for split in ("train", "test", *_VALIDATION)}
    used = {split: pair for split, pair in pairs.items() if set(pair) <= set(present)}
    known = {name for pair in used.values() for name in pair}
    unused = [name for name in present if name.startswith(("x_", "y_")) and name not in known]
    # Data that were held out on purpose must not be ignored.
    if unused:
        raise _Invalid(
            f"it has {', '.join(unused)}, which would not be used (name validation arrays x_val and y_val)"
        )
    if len(used) > 3:
        raise _Invalid(
            f"it has several validation sets ({', '.join(split for split in used if split in _VALIDATION)})"
        )
    return {split: pair for split, pair in used.items() if test or split != "test"}


def _pairs(
    archive: Mapping[str, NDArray[Any]], names: Mapping[str, tuple[str, str]]
) -> dict[str, list[NDArray[Any]]]:
    return {split: [archive[name] for name in pair] for split, pair in names.items() if split != "train"}


def _check_sizes(path: Path, archive: zipfile.ZipFile, names: Mapping[str, tuple[str, str]]) -> None:
    """Check, before memory is taken for them, that the arrays are as large as their headers state, and fit."""
    total = sum(checked_bytes(archive, name) for pair in names.values() for name in pair)
    free = psutil.virtual_memory().available
    if total > free:
        raise DataDamagedError(
            f"the arrays of data file {path} take {total / 2**30:.1f} GiB, and {free / 2**30:.1f} GiB of memory are"
            " free: use a host with more memory, or a smaller file"
        )


def _checked_pair(
    split: str, x: NDArray[Any], y: NDArray[Any], class_count: int | None
) -> tuple[Images, Labels]:
    if x.dtype != np.uint8:
        raise _Invalid(f"x_{split} is {x.dtype}, not uint8 from 0 to 255")
    if x.ndim == 3:
        x = x[..., np.newaxis]
    if x.ndim != 4:
        raise _Invalid(f"x_{split} is {x.shape}, not (n, height, width) or (n, height, width, channels)")
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if y.ndim != 1 or not np.issubdtype(y.dtype, np.integer):
        raise _Invalid(f"y_{split} is {y.dtype} of {y.shape}, not whole numbers of (n,) or (n, 1)")
    if len(x) != len(y):
        raise _Invalid(f"x_{split} has {len(x)} images but y_{split} {len(y)} labels")
    if x.size == 0:
        raise _Invalid(f"x_{split} is empty")
    low, high = int(y.min()), int(y.max())
    if low < 0 or (class_count is not None and high >= class_count):
        allowed = f"0 to {class_count - 1}" if class_count is not None else "0 upwards"
        raise _Invalid(f"y_{split} has labels from {low} to {high}, not {allowed}")
    return x, y.astype(np.int64)


def _is_pair_of_arrays(value: Any) -> bool:
    return (
        isinstance(value, tuple | list)
        and len(value) == 2
        and all(isinstance(array, np.ndarray) for array in value)
    )


def _one_line(exc: Exception) -> str:
    return " ".join(str(exc).split()) or type(exc).__name__
