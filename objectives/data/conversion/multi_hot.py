"""Sets of labels, given by their names, as columns of 0 and 1."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from objectives.data.class_names import LABEL_SEPARATOR, composed, sorted_classes
from objectives.data.errors import ArrayInvalidError


def multi_hot(
    arrays: Mapping[str, NDArray[Any]], declared: Sequence[str] | None
) -> tuple[dict[str, NDArray[np.uint8]], tuple[str, ...]]:
    """Return columns of 0 and 1 by the names of their arrays, the training rows first, and the names of the labels.

    Raises:
        ArrayInvalidError: the arrays have no names, or labels that are unknown.
    """
    train = next(iter(arrays))
    sets: dict[str, list[list[str]]] = {}
    for name, array in arrays.items():
        flat = column(array)
        if flat.ndim != 1 or flat.dtype.kind != "U":
            raise ArrayInvalidError(f"{name} is {array.dtype} of {array.shape}, not names of labels (n,)")
        sets[name] = [
            [composed(part.strip()) for part in str(text).split(LABEL_SEPARATOR) if part.strip()]
            for text in flat
        ]
    names = declared or sorted_classes({label for row in sets[train] for label in row})
    if not names:
        raise ArrayInvalidError(f"{train} has no label in any row")
    numbers = {composed(name): number for number, name in enumerate(names)}
    found: dict[str, NDArray[np.uint8]] = {}
    for name, rows in sets.items():
        hot = np.zeros((len(rows), len(names)), np.uint8)
        for row, labels in enumerate(rows):
            for label in labels:
                if label not in numbers:
                    raise ArrayInvalidError(
                        f"{name} has the label {label!a} in row {row}, which "
                        f"{'the objective does not declare' if declared else train + ' lacks'}: move or rename it"
                    )
                hot[row, numbers[label]] = 1
        found[name] = hot
    return found, tuple(names)


def label_texts(values: Any, name: str) -> Any:
    """Return lists of names, one for each row, as texts; other values as they are."""
    if not (isinstance(values, np.ndarray) and values.dtype.kind == "O" and values.ndim == 1):
        return values
    if not all(isinstance(row, list | tuple | set | frozenset) for row in values):
        return values
    for index, row in enumerate(values):
        if not all(isinstance(label, str) and LABEL_SEPARATOR not in label for label in row):
            raise ArrayInvalidError(
                f"{name} has labels in row {index} that are not names without {LABEL_SEPARATOR}"
            )
    return np.array([LABEL_SEPARATOR.join(sorted(row)) for row in values], "U")


def column(array: NDArray[Any]) -> NDArray[Any]:
    """Return (n,) for a column (n, 1), else the array as it is."""
    return array[:, 0] if array.ndim == 2 and array.shape[1] == 1 else array
