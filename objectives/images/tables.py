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
from objectives.images.labels import LABELS, SEVERAL, Labels, class_name
from objectives.images.listing import SPLIT_NAMES, Listing, Picture

EXTENSIONS = (".csv", ".parquet")

_Row = Mapping[str, str]

_NAMES = ("path", "label", "split", "group")
_MOST_SHOWN, _SHOWN = 5, 40
"""Number of columns that a message names, and characters of each."""


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
    labels = LABELS[task]
    columns = labels.columns(list(rows[0])) if rows else ()
    for number, row in enumerate(rows, start=1):
        place = f"row {number} of {table}"
        picture = _picture(row, place, labels, columns)
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
    return Listing(source=table, folder=table.parent, pictures=pictures, task=task, columns=columns)


def _picture(row: _Row, place: str, labels: Labels, columns: Sequence[str]) -> Picture:
    path, split = row["path"], row.get("split", "").strip().lower()
    if not path:
        raise DataDamagedError(f"{place} has no path: fill the column, or remove the row")
    if split and split not in SPLIT_NAMES:
        raise DataDamagedError(f"{place} has the split {row['split']!a}: use train, val or test")
    return Picture(
        path=path,
        label=labels.cell(row, columns, place),
        split=SPLIT_NAMES[split] if split else None,
        group=composed(row.get("group", "")).strip() or None,
    )


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
    used = [name for name in columns if name in _NAMES or name.startswith(SEVERAL)]
    for number, values in enumerate(zip(*(frame[name] for name in used), strict=True), start=1):
        row = dict(zip(used, values, strict=True))
        if LABELS[task].single and _is_list(row["label"]) and len(row["label"]) > 1:
            raise DataDamagedError(
                f"row {number} of {table} has {len(row['label'])} labels: set --task labels, or leave one of them"
            )
        yield {name: _text(value, pd.isna) for name, value in row.items()}


def _is_list(value: Any) -> bool:
    return isinstance(value, list | tuple | set | np.ndarray)


def _text(value: Any, is_missing: Callable[[Any], bool]) -> str:
    if _is_list(value):
        return LABEL_SEPARATOR.join(_text(one, is_missing) for one in value)
    if isinstance(value, bytes):
        # Of writers that do not mark their texts. Bytes that are no text are refused as names are.
        return value.decode(errors="surrogateescape")
    return "" if is_missing(value) else str(value)


def _check_columns(table: Path, columns: list[str], task: TaskName) -> None:
    several = [name for name in columns if name.startswith(SEVERAL)]
    twice = [name for name in columns if columns.count(name) > 1 and (name in _NAMES or name in several)]
    if twice:
        raise DataDamagedError(f"table {table} has two columns {twice[0]}: rename one of them")
    if several and not LABELS[task].single:
        if "label" in columns:
            raise DataDamagedError(
                f"table {table} has the column label next to {', '.join(several[:_MOST_SHOWN])}: remove or rename"
                " those that are not targets"
            )
        for name in several:
            class_name(name.removeprefix(SEVERAL), f"column {name!a} of table {table}")
    missing = [name for name in ("path", "label") if name not in columns]
    if missing == ["label"] and several:
        if LABELS[task].single:
            raise DataDamagedError(
                f"table {table} has the columns {', '.join(several[:3])} and no column label: set --task regression, or"
                " --task labels for columns of 0 and 1"
            )
        return
    if missing:
        found = f" but {', '.join(ascii(name[:_SHOWN]) for name in columns[:_MOST_SHOWN])}" if columns else ""
        raise DataDamagedError(
            f"table {table} has no column {' and no column '.join(missing)}{found}: its first row must name path"
            " and label, and perhaps split and group, with commas between them"
        )
