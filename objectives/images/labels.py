"""The labels of listed images in each task: how a table gives them, what is refused, and the targets they become."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from hpo.errors import DataDamagedError
from objectives.data.class_names import LABEL_SEPARATOR, are_fractions, composed, sorted_classes
from objectives.data.conversion.float32 import Float32
from objectives.data.targets import Targets
from objectives.data_options import TaskName
from objectives.names import MOST_NAME, is_usable

SEVERAL = "label_"
"""Beginning of the names of several label columns."""

_Row = Mapping[str, str]


class Labels(ABC):
    """The labels of one task, each kept as one text."""

    kind: ClassVar[str] = "class"
    """Noun for a label in messages."""
    single: ClassVar[bool] = False
    """Whether each image has exactly one class: it can be the name of a folder, and each split needs all classes."""
    named: ClassVar[bool] = True
    """Whether labels are names, all of which the training images must have."""

    def columns(self, present: Sequence[str]) -> tuple[str, ...]:
        """Return the columns of several labels, given those of a table; none if there is a column label."""
        return () if "label" in present else tuple(name for name in present if name.startswith(SEVERAL))

    @abstractmethod
    def cell(self, row: _Row, columns: Sequence[str], place: str) -> str:
        """Return the text of an image's labels; `columns` are those of several labels, `place` names the row.

        Raises:
            DataDamagedError: they are missing or invalid.
        """

    def names(self, text: str) -> Sequence[str]:
        """Return the names of an image's class or labels."""
        return (text,)

    def classes(self, texts: Collection[str], columns: Sequence[str]) -> tuple[str, ...]:  # noqa: ARG002
        """Return the names of all classes or labels, or of the numbers to predict."""
        return sorted_classes({name for text in texts for name in self.names(text)})

    @abstractmethod
    def targets(self, texts: Sequence[str], classes: Sequence[str]) -> Targets:
        """Return the targets of images, in the form of `objectives.data.targets`."""

    @abstractmethod
    def check(self, source: Path, texts: Sequence[str], classes: Sequence[str]) -> None:
        """Check the labels of all images, and the names of classes.

        Raises:
            DataDamagedError: no model can be trained for them.
        """

    def fewest(self, texts: Sequence[str], classes: Sequence[str]) -> tuple[int, str]:  # noqa: ARG002
        """Return the number of images of the smallest class, and its name; without classes that of all images."""
        return len(texts), ""


class _OneClass(Labels):
    """One of several classes."""

    single = True

    def columns(self, present: Sequence[str]) -> tuple[str, ...]:  # noqa: ARG002
        return ()

    def cell(self, row: _Row, columns: Sequence[str], place: str) -> str:  # noqa: ARG002
        if not row["label"].strip():
            raise DataDamagedError(f"{place} has no label: fill the column, or remove the row")
        return class_name(row["label"], place)

    def targets(self, texts: Sequence[str], classes: Sequence[str]) -> Targets:
        numbers = {name: number for number, name in enumerate(classes)}
        return np.array([numbers[text] for text in texts], np.int64)

    def check(self, source: Path, texts: Sequence[str], classes: Sequence[str]) -> None:  # noqa: ARG002
        if len(classes) < 2:
            raise DataDamagedError(
                f"{source} has the single class {classes[0]}: a classifier needs images of at least two classes,"
                " <class>/*.jpg or path,label in a table"
            )
        self._check_several(source, classes)

    def _check_several(self, source: Path, classes: Sequence[str]) -> None:
        if are_fractions(classes):
            raise DataDamagedError(
                f"{source} has numbers such as {classes[0]} as labels: for numbers to predict set --task regression"
            )

    def fewest(self, texts: Sequence[str], classes: Sequence[str]) -> tuple[int, str]:
        sizes = Counter(texts)
        name = min(classes, key=lambda name: sizes[name])
        return sizes[name], name


class _OneOfTwo(_OneClass):
    """One of two classes."""

    def _check_several(self, source: Path, classes: Sequence[str]) -> None:
        if len(classes) > 2:
            shown = ", ".join((*classes[:3], "…")[: len(classes)])
            raise DataDamagedError(
                f"{source} has {len(classes)} classes ({shown}), and task binary needs two: set --task classes"
            )


class _Several(Labels):
    """Any number of labels."""

    kind = "label"

    def cell(self, row: _Row, columns: Sequence[str], place: str) -> str:
        if columns:
            given = [
                column.removeprefix(SEVERAL) for column in columns if _is_set(row[column], column, place)
            ]
        else:
            given = [text for text in row["label"].split(LABEL_SEPARATOR) if text.strip()]
        return LABEL_SEPARATOR.join(sorted({class_name(text, place) for text in given}))

    def names(self, text: str) -> Sequence[str]:
        return text.split(LABEL_SEPARATOR) if text else ()

    def targets(self, texts: Sequence[str], classes: Sequence[str]) -> Targets:
        numbers = {name: number for number, name in enumerate(classes)}
        hot = np.zeros((len(texts), len(classes)), np.uint8)
        for row, text in enumerate(texts):
            hot[row, [numbers[name] for name in self.names(text)]] = 1
        return hot

    def check(self, source: Path, texts: Sequence[str], classes: Sequence[str]) -> None:  # noqa: ARG002
        if not classes:
            raise DataDamagedError(f"{source} has no label for any image: fill the column label")


class _Numbers(Labels):
    """One number to predict, or several."""

    named = False

    def cell(self, row: _Row, columns: Sequence[str], place: str) -> str:
        return LABEL_SEPARATOR.join(_number(row[column], column, place) for column in columns or ("label",))

    def classes(self, texts: Collection[str], columns: Sequence[str]) -> tuple[str, ...]:  # noqa: ARG002
        return tuple(column.removeprefix(SEVERAL) for column in columns) or ("target",)

    def targets(self, texts: Sequence[str], classes: Sequence[str]) -> Targets:
        return _exact(texts, classes).astype(np.float32)

    def check(self, source: Path, texts: Sequence[str], classes: Sequence[str]) -> None:
        convert = Float32("label", keeps_differences=True)
        convert(_exact(texts, classes))
        if (lost := convert.lost()) is not None:
            column, low, high = lost
            name = f"label_{classes[column]}" if len(classes) > 1 else "label"
            raise DataDamagedError(
                f"{source} has the {name} from {low} to {high}, whose differences are lost in float32: subtract their"
                " mean, and divide them by their deviation"
            )


LABELS: Mapping[TaskName, Labels] = {
    "classes": _OneClass(),
    "binary": _OneOfTwo(),
    "labels": _Several(),
    "regression": _Numbers(),
}


def class_name(text: str, place: str) -> str:
    """Return the name of a class in Unicode's composed form, in which names from any system are equal.

    Raises:
        DataDamagedError: it is empty, too long or no valid text.
    """
    name = composed(text).strip()
    if not is_usable(name):
        raise DataDamagedError(
            f"{place} has the class name {text!a}: use printable UTF-8 text of at most {MOST_NAME} characters"
        )
    return name


def _number(text: str, column: str, place: str) -> str:
    """Return a number to predict as text, as float32 holds it."""
    try:
        number = np.float64(text)
    except ValueError:
        number = np.float64("nan")
    with np.errstate(over="ignore"):
        if not np.isfinite(np.float32(number)):
            raise DataDamagedError(
                f"{place} has the {column} {text!a}, which is not a finite number: fill it, remove the row, or"
                " set another task, such as --task classes"
            )
    return repr(float(number))


def _exact(texts: Sequence[str], classes: Sequence[str]) -> NDArray[np.float64]:
    rows = [text.split(LABEL_SEPARATOR) for text in texts]
    return np.array(rows, np.float64).reshape(len(rows), len(classes))


def _is_set(text: str, column: str, place: str) -> bool:
    if text.strip().lower() not in ("0", "1", "0.0", "1.0", "false", "true"):
        raise DataDamagedError(f"{place} has the {column} {text!a}: use 0 or 1")
    return text.strip().lower() in ("1", "1.0", "true")
