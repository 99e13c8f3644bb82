"""The arrays of an image data set: read from a file or a function, and validated."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpo.errors import DataDamagedError

Images = NDArray[np.uint8]
Labels = NDArray[np.int64]

NAMES = ("x_train", "y_train", "x_test", "y_test")
"""Names of the arrays in a file: the layout of `keras.datasets`."""

_UNREADABLE = (zipfile.BadZipFile, zlib.error, OSError, EOFError, ValueError, KeyError)


class _Invalid(Exception):
    """A mistake in the arrays, as the end of a sentence."""


@dataclass(frozen=True)
class Arrays:
    """Images as uint8 (n, height, width, channels), labels as int64 (n,)."""

    x_train: Images
    y_train: Labels
    x_test: Images | None = None
    y_test: Labels | None = None


def read(path: Path, class_count: int | None, test: bool) -> Arrays:
    """Read the arrays of an .npz file; reads the test arrays only if `test`.

    Raises:
        DataDamagedError: the file cannot be read or its arrays are invalid.
    """
    try:
        # Opened here, because np.load leaves a file open that is no archive.
        with path.open("rb") as file:
            archive = np.load(file, allow_pickle=False)
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise _Invalid("it is not an .npz archive")
            absent = [name for name in NAMES if name not in archive.files]
            if absent:
                raise _Invalid(f"it has no array {', '.join(absent)}")
            return checked([archive[name] for name in (NAMES if test else NAMES[:2])], class_count)
    except (_Invalid, *_UNREADABLE) as exc:
        reason = str(exc) if isinstance(exc, _Invalid) else f"it cannot be read ({_one_line(exc)})"
        raise DataDamagedError(
            f"data file {path} is damaged: {reason}; delete it and fetch it again "
            f"(hpo data fetch {path.stem}), or replace it by a file with valid {', '.join(NAMES)}"
        ) from exc


def call(function: Callable[[], Any], class_count: int | None, test: bool) -> Arrays:
    """Return the arrays of a user's function: `(x_train, y_train), (x_test, y_test)`, or only the first pair.

    Raises:
        DataDamagedError: the function returns something else.
    """
    where = f"data function {getattr(function, '__name__', repr(function))}"
    returned = function()
    pairs = [returned] if _is_pair_of_arrays(returned) else returned
    if not (isinstance(pairs, tuple | list) and pairs and all(_is_pair_of_arrays(pair) for pair in pairs)):
        raise DataDamagedError(
            f"{where} must return (x_train, y_train), (x_test, y_test) as NumPy arrays, or the first pair"
        )
    if test and len(pairs) < 2:
        raise DataDamagedError(f"{where} returns no test set, but retraining needs one: return a second pair")
    try:
        return checked([array for pair in pairs[: 1 + test] for array in pair], class_count)
    except _Invalid as exc:
        raise DataDamagedError(f"{where} returns invalid data: {exc}") from exc


def checked(raw: Sequence[NDArray[Any]], class_count: int | None) -> Arrays:
    """Return training arrays, and test arrays if `raw` has four, validated and in one shape and type."""
    x_train, y_train = _checked_pair("train", raw[0], raw[1], class_count)
    if len(raw) == 2:
        return Arrays(x_train, y_train)
    x_test, y_test = _checked_pair("test", raw[2], raw[3], class_count or int(y_train.max()) + 1)
    if x_test.shape[1:] != x_train.shape[1:]:
        raise _Invalid(f"x_test holds images of {x_test.shape[1:]}, x_train of {x_train.shape[1:]}")
    return Arrays(x_train, y_train, x_test, y_test)


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
