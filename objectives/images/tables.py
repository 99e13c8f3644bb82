"""Tables of images: CSV or Parquet with the columns `path,label` and perhaps `split` and `group`.

Labels of an image are separated by `|`. Several numbers to predict, or labels as 0 and 1, are in columns
`label_<name>`.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hpo.errors import DataDamagedError, MissingDependencyError
from objectives.data.class_names import LABEL_SEPARATOR, composed
from objectives.data_options import TaskName
from objectives.images.listing import SPLIT_NAMES, Listing, Picture, class_name

EXTENSIONS = (".csv", ".parquet")

_Row = Mapping[str, str]

_NAMES = ("path", "label", "split", "group")
_SEVERAL = "label_"
"""Beginning of the names of several label columns."""


def read(table: Path, task: TaskName = "classes") -> Listing:
    """List the images of a table; relative paths start from its folder.

    Raises:
        DataDamagedError: the table cannot be read, or a row is invalid.
        MissingDependencyError: a package that reads Parquet is not installed.
    """
    try:
        rows = list(_csv(table, task) if table.suffix.lower() == ".csv" else _parquet(table, task))
    except (OSError, csv.Error, UnicodeDecodeError) as exc:
        reason = (isinstance(exc, OSError) and exc.strerror) or exc
        raise DataDamagedError(
            f"table {table} cannot be read ({reason}): write it again as UTF-8 text"
        ) from exc
    pictures: list[Picture] = []
    places: dict[str, int] = {}
    columns = _label_columns(list(rows[0]), task) if rows else ()
    for number, row in enumerate(rows, start=1):
        place = f"row {number} of {table}"
        picture = _picture(row, place, task, columns)
        # One file may have several spellings.
        earlier = places.setdefault(os.path.normpath(table.parent / picture.path), number)
        if earlier != number:
            raise DataDamagedError(
                f"{place} has the path {picture.path} of row {earlier}: remove one of them"
            )
        pictures.append(picture)
    without = [number for number, picture in enumerate(pictures, start=1) if picture.split is None]
    if 0 < len(without) < len(pictures):
        raise DataDamagedError(
            f"row {without[0]} of {table} has no split, and others have one: fill the column"
        )
    names = tuple(column.removeprefix(_SEVERAL) for column in columns) if task == "regression" else ()
    return Listing(source=table, folder=table.parent, pictures=pictures, task=task, columns=names)


def _label_columns(columns: Sequence[str], task: TaskName) -> tuple[str, ...]:
    """Return the names of several label columns; none if there is a column label, or the task has one label."""
    if "label" in columns or task in ("classes", "binary"):
        return ()
    return tuple(column for column in columns if column.startswith(_SEVERAL))


def _picture(row: _Row, place: str, task: TaskName, columns: Sequence[str]) -> Picture:
    path, split = row["path"], row.get("split", "").strip().lower()
    if not path:
        raise DataDamagedError(f"{place} has no path: fill the column, or remove the row")
    if split and split not in SPLIT_NAMES:
        raise DataDamagedError(f"{place} has the split {row['split']!a}: use train, val or test")
    return Picture(
        path=path,
        label=_label(row, place, task, columns),
        split=SPLIT_NAMES[split] if split else None,
        group=composed(row.get("group", "")).strip() or None,
    )


def _label(row: _Row, place: str, task: TaskName, columns: Sequence[str]) -> str:
    if task == "regression":
        return LABEL_SEPARATOR.join(_number(row[column], column, place) for column in columns or ("label",))
    if task == "labels":
        given = [column.removeprefix(_SEVERAL) for column in columns if _is_set(row[column], column, place)]
        texts = given if columns else [text for text in row["label"].split(LABEL_SEPARATOR) if text.strip()]
        return LABEL_SEPARATOR.join(sorted({class_name(text, place) for text in texts}))
    if not row["label"].strip():
        raise DataDamagedError(f"{place} has no label: fill the column, or remove the row")
    return class_name(row["label"], place)


def _number(text: str, column: str, place: str) -> str:
    """Return a number to predict as text, as float32 holds it."""
    try:
        number = np.float64(text)
    except ValueError:
        number = np.float64("nan")
    with np.errstate(over="ignore"):
        if not np.isfinite(np.float32(number)):
            raise DataDamagedError(
                f"{place} has the {column} {text!a}, which is no finite number: fill it, or remove the row"
            )
    return repr(float(number))


def _is_set(text: str, column: str, place: str) -> bool:
    if text.strip().lower() not in ("0", "1", "0.0", "1.0", "false", "true"):
        raise DataDamagedError(f"{place} has the {column} {text!a}: use 0 or 1")
    return text.strip().lower() in ("1", "1.0", "true")


def _csv(table: Path, task: TaskName) -> Iterator[_Row]:
    with table.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file, restval="", strict=True)
        columns = list(reader.fieldnames or ())
        _check_columns(table, columns, task)
        for number, row in enumerate(reader, start=1):
            if any(row.pop(None, ())):
                raise DataDamagedError(
                    f"row {number} of {table} has more cells than the first row has columns: put text with commas in"
                    " quotes"
                )
            yield row


def _parquet(table: Path, task: TaskName) -> Iterator[_Row]:
    import pandas as pd

    try:
        frame: Any = pd.read_parquet(table)
    except ImportError as exc:
        raise MissingDependencyError(
            "a Parquet table needs a package to read it: pip install 'hpo-service[parquet]', or write a CSV table"
        ) from exc
    # Its readers raise errors of their own.
    except Exception as exc:
        reason = " ".join(str(exc).split())[:200]
        raise DataDamagedError(f"table {table} cannot be read ({reason}): write it again") from exc
    columns = [str(name) for name in frame.columns]
    _check_columns(table, columns, task)
    used = [name for name in columns if name in _NAMES or name.startswith(_SEVERAL)]
    for values in zip(*(frame[name] for name in used), strict=True):
        yield {name: _text(value, pd.isna) for name, value in zip(used, values, strict=True)}


def _text(value: Any, is_missing: Callable[[Any], bool]) -> str:
    if isinstance(value, list | tuple | set | np.ndarray):
        return LABEL_SEPARATOR.join(map(str, value))
    return "" if is_missing(value) else str(value)


def _check_columns(table: Path, columns: list[str], task: TaskName) -> None:
    several = [name for name in columns if name.startswith(_SEVERAL)]
    twice = [name for name in columns if columns.count(name) > 1 and (name in _NAMES or name in several)]
    if twice:
        raise DataDamagedError(f"table {table} has two columns {twice[0]}: rename one of them")
    missing = [name for name in ("path", "label") if name not in columns]
    if missing == ["label"] and several:
        if task in ("classes", "binary"):
            raise DataDamagedError(
                f"table {table} has the columns {', '.join(several[:3])} and no column label: set --task regression, or"
                " --task labels for columns of 0 and 1"
            )
        return
    if missing:
        raise DataDamagedError(
            f"table {table} has no column {' and no column '.join(missing)}: its first row must name path and label,"
            " and perhaps split and group"
        )
