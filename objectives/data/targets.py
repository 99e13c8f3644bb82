"""Targets of a model, in the one form that each task has:

classes int64 (n,), the indices of classes; labels uint8 (n, labels) of 0 and 1; binary int64 (n,) of 0 and 1;
regression float32 (n, targets). Whole floats, bools, strings, one-hot rows and columns (n, 1) are converted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from objectives.data.class_names import LABEL_SEPARATOR, are_fractions, check_names, composed, sorted_classes
from objectives.data.conversion.float32 import Float32
from objectives.data.conversion.multi_hot import column, label_texts, multi_hot
from objectives.data.conversion.objects import as_array
from objectives.data.errors import ArrayInvalidError
from objectives.data.inputs import check_finite
from objectives.data_options import TaskName

Targets = NDArray[Any]
Names = tuple[str, ...]
ByName = Mapping[str, NDArray[Any]]
"""Targets by the names of their arrays, those of the training rows first."""

_MOST_UNUSED = 1000
"""Numbers of classes that may have no example, besides nine tenths of all."""


def converted(
    task: TaskName, given: Mapping[str, Any], names: Sequence[str] | None = None
) -> tuple[dict[str, Targets], Names]:
    """Return targets by the names of their arrays, the training rows first, and the names of classes or targets.

    `names` are those that the objective or the data set declares; else they are found in the training targets.

    Raises:
        ArrayInvalidError: the targets do not fit the task or the names.
    """
    declared = tuple(names) if names is not None else None
    check_names(declared or ())
    if task == "labels":
        given = {name: label_texts(values, name) for name, values in given.items()}
    arrays = {name: as_array(values, name) for name, values in given.items()}
    for name, array in arrays.items():
        if array.size == 0:
            raise ArrayInvalidError(f"{name} is empty")
        if array.dtype.kind not in "buifU":
            raise ArrayInvalidError(f"{name} is {array.dtype}, not of numbers or strings")
        if array.dtype.kind == "f":
            check_finite(array, name)
    targets, found = _CONVERSIONS[task](arrays, declared)
    check_names(found)
    return targets, found


def check_learnable(y: Targets, names: Names, task: TaskName) -> None:
    """Check that training targets have two classes, or a label; numbers may be equal.

    Raises:
        ArrayInvalidError: they have not.
    """
    if task == "labels" and not y.any():
        raise ArrayInvalidError("y_train has no label in any row: give rows with labels")
    if task in ("classes", "binary") and (y == y[0]).all():
        raise ArrayInvalidError(
            f"y_train has the single class {names[y[0]]}: a classifier needs rows of at least two classes"
        )


def _classes(arrays: ByName, declared: Names | None) -> tuple[dict[str, Targets], Names]:
    flat = {name: _numbers_of_classes(array, name) for name, array in arrays.items()}
    train, y = next(iter(flat.items()))
    if y.dtype.kind == "U":
        return _named(flat, declared)
    if any(array.dtype.kind == "U" for array in flat.values()):
        raise ArrayInvalidError(f"{train} has numbers, and others have strings: use one of both")
    count = len(declared) if declared is not None else int(y.max()) + 1
    one_hot = {array.shape[1] for array in arrays.values() if array.ndim == 2 and array.shape[1] > 1}
    if declared is None and one_hot:
        count = max(one_hot)
    for name, array in flat.items():
        low, high = int(array.min()), int(array.max())
        if low < 0 or high >= count:
            allowed = f"0 to {count - 1}" if declared is not None or name != train else "0 upwards"
            raise ArrayInvalidError(f"{name} has labels from {low} to {high}, not {allowed}")
    if declared is not None:
        return {name: array.astype(np.int64) for name, array in flat.items()}, declared
    _check_known(flat, count)
    first = 0 if one_hot else _first_class(y)
    return {name: array.astype(np.int64) - first for name, array in flat.items()}, tuple(
        map(str, range(first, count))
    )


def _first_class(y: NDArray[Any]) -> int:
    """Return 1 for training targets that count their classes from 1 without a gap, else 0.

    The class 0, which has no example, would be an output that is never right.
    """
    present = np.unique(y)
    return int(len(present) > 1 and np.array_equal(present, np.arange(1, len(present) + 1)))


def _check_known(flat: ByName, count: int) -> None:
    """Check that numbers count classes, and that the training rows have all of them."""
    train, y = next(iter(flat.items()))
    present = np.unique(y)
    if count > 10 * len(present) + _MOST_UNUSED:
        raise ArrayInvalidError(
            f"{train} has {len(present):,} different labels up to {count - 1:,}: number the classes from 0, or give"
            ' their names as strings (numbers to predict need task = "regression")'
        )
    for name, array in flat.items():
        strange = np.setdiff1d(array, present)
        if len(strange):
            raise ArrayInvalidError(
                f"{name} has the class {strange[0]}, which {train} lacks: move its rows, or add training rows of it"
            )


def _numbers_of_classes(array: NDArray[Any], name: str) -> NDArray[Any]:
    """Return numbers or names of classes (n,)."""
    array = column(array)
    if array.ndim == 2 and array.dtype.kind != "U":
        return _from_one_hot(array, name)
    if array.ndim != 1:
        raise ArrayInvalidError(
            f"{name} is {array.dtype} of {array.shape}, not one class for each row: use (n,), (n, 1) or one-hot rows"
        )
    if array.dtype.kind == "f" and (fraction := array % 1 != 0).any():
        row = int(np.flatnonzero(fraction)[0])
        raise ArrayInvalidError(
            f"{name} is {array[row]} in row {row}, and classes are whole numbers or strings: for numbers to predict set"
            ' task = "regression" (--task regression)'
        )
    return array


def _from_one_hot(array: NDArray[Any], name: str) -> NDArray[np.int64]:
    _check_zeros_and_ones(array, name, "a one-hot row of 0 and a single 1")
    wrong = np.count_nonzero(array, axis=1) != 1
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        raise ArrayInvalidError(
            f"{name} has {np.count_nonzero(array[row])} classes in row {row}, and a one-hot row has one: for several"
            ' labels of a row set task = "labels" (--task labels)'
        )
    found: NDArray[np.int64] = array.argmax(axis=1)
    return found


def _named(flat: ByName, declared: Names | None) -> tuple[dict[str, Targets], Names]:
    """Return numbers of classes that are given by name."""
    train = next(iter(flat))
    texts = {name: np.char.strip(array.astype("U")) for name, array in flat.items()}
    names = declared or sorted_classes({composed(str(text)) for text in np.unique(texts[train])})
    if declared is None and are_fractions(names):
        raise ArrayInvalidError(
            f'{train} has numbers such as {names[0]} as classes: for numbers to predict set task = "regression"'
            " (--task regression)"
        )
    if "" in names:
        raise ArrayInvalidError(
            f"{train} has an empty class name in row {int(np.flatnonzero(texts[train] == '')[0])}"
        )
    numbers = {text: number for number, text in enumerate(map(composed, names))}
    found: dict[str, Targets] = {}
    for name, array in texts.items():
        different, inverse = np.unique(array, return_inverse=True)
        unknown = [text for text in map(str, different) if composed(text) not in numbers]
        if unknown:
            known = "classes of the objective are" if declared else f"{train} has only"
            listed = ", ".join(names[:5]) + (", …" if len(names) > 5 else "")
            raise ArrayInvalidError(
                f"{name} has the class {unknown[0]!a}, but {known} {listed}: move or rename its rows"
            )
        found[name] = np.array([numbers[composed(str(text))] for text in different], np.int64)[inverse]
    return found, tuple(names)


def _binary(arrays: ByName, declared: Names | None) -> tuple[dict[str, Targets], Names]:
    flat = {name: _two_columns(array, name) for name, array in arrays.items()}
    train, y = next(iter(flat.items()))
    if declared is not None and len(declared) != 2:
        raise ArrayInvalidError(
            f"{train} is for task binary, and {len(declared)} classes are declared: declare two"
        )
    if y.dtype.kind == "U":
        targets, names = _named(flat, declared)
    else:
        values = np.unique(y) if declared is None else np.arange(2)
        names = declared or tuple(str(int(v)) if float(v).is_integer() else str(v) for v in values)
        targets = {}
        for name, array in flat.items():
            unknown = np.setdiff1d(array, values)
            if len(unknown):
                raise ArrayInvalidError(
                    f"{name} has the value {unknown[0]}, but {train} has only {', '.join(names)}"
                )
            targets[name] = np.searchsorted(values, array).astype(np.int64)
    if len(names) != 2:
        raise ArrayInvalidError(
            f"{train} has {len(names)} different value{'' if len(names) == 1 else 's'}, and task binary needs two: set"
            ' another task, such as "classes" (--task classes)'
        )
    return targets, names


def _two_columns(array: NDArray[Any], name: str) -> NDArray[Any]:
    array = column(array)
    if array.ndim == 2 and array.shape[1] == 2 and array.dtype.kind != "U":
        return _from_one_hot(array, name)
    if array.ndim != 1:
        raise ArrayInvalidError(
            f"{name} is {array.dtype} of {array.shape}, not one of two values for each row (n,)"
        )
    return array.astype(np.int64) if array.dtype.kind == "b" else array


def _labels(arrays: ByName, declared: Names | None) -> tuple[dict[str, Targets], Names]:
    y = next(iter(arrays.values()))
    if y.dtype.kind == "U":
        return multi_hot(arrays, declared)
    targets: dict[str, Targets] = {}
    for name, array in arrays.items():
        if array.ndim != 2 or array.dtype.kind == "U":
            raise ArrayInvalidError(
                f"{name} is {array.dtype} of {array.shape}, not 0 or 1 for each label (n, labels), or names"
                f" separated by {LABEL_SEPARATOR}"
            )
        _check_zeros_and_ones(array, name, "0 or 1 for each label")
        targets[name] = array.astype(np.uint8)
    return targets, _checked_width(targets, declared, "labels") or tuple(map(str, range(y.shape[1])))


def _regression(arrays: ByName, declared: Names | None) -> tuple[dict[str, Targets], Names]:
    targets: dict[str, Targets] = {}
    for name, array in arrays.items():
        if array.dtype.kind == "U":
            raise ArrayInvalidError(
                f'{name} has strings, and regression needs numbers: convert them, or set task = "classes"'
            )
        columns = array[:, np.newaxis] if array.ndim == 1 else array
        if columns.ndim != 2:
            raise ArrayInvalidError(
                f"{name} is {array.dtype} of {array.shape}, not numbers (n,) or (n, targets)"
            )
        convert = Float32(name, keeps_differences=not targets)
        targets[name] = np.ascontiguousarray(convert(columns))
        convert.end()
    width = next(iter(targets.values())).shape[1]
    names = _checked_width(targets, declared, "targets")
    return targets, names or (
        ("target",) if width == 1 else tuple(f"target_{n}" for n in range(1, width + 1))
    )


def _checked_width(targets: ByName, declared: Names | None, kind: str) -> Names | None:
    train, y = next(iter(targets.items()))
    for name, array in targets.items():
        if array.shape[1] != y.shape[1]:
            raise ArrayInvalidError(f"{name} has {array.shape[1]} {kind}, and {train} {y.shape[1]}")
    if declared is not None and len(declared) != y.shape[1]:
        raise ArrayInvalidError(
            f"{train} has {y.shape[1]} {kind}, and {len(declared)} are declared as classes"
        )
    return declared


def _check_zeros_and_ones(array: NDArray[Any], name: str, needed: str) -> None:
    wrong = ((array != 0) & (array != 1)).any(axis=1)
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        value = array[row][(array[row] != 0) & (array[row] != 1)][0]
        raise ArrayInvalidError(f"{name} is {value} in row {row}, not {needed}")


_CONVERSIONS: Mapping[TaskName, Callable[[ByName, Names | None], tuple[dict[str, Targets], Names]]] = {
    "classes": _classes,
    "labels": _labels,
    "binary": _binary,
    "regression": _regression,
}
