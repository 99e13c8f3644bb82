"""Tables of images: CSV or Parquet with the columns `path,label` and perhaps `split` and `group`."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from hpo.errors import DataDamagedError, MissingDependencyError
from objectives.images.listing import SPLIT_NAMES, Listing, Picture, class_name

EXTENSIONS = (".csv", ".parquet")

_Row = Mapping[str, str]


def read(table: Path) -> Listing:
    """List the images of a table; relative paths start from its folder.

    Raises:
        DataDamagedError: the table cannot be read, or a row is invalid.
        MissingDependencyError: a package that reads Parquet is not installed.
    """
    try:
        rows = list(_csv(table) if table.suffix.lower() == ".csv" else _parquet(table))
    except (OSError, csv.Error, UnicodeDecodeError) as exc:
        reason = (isinstance(exc, OSError) and exc.strerror) or exc
        raise DataDamagedError(
            f"table {table} cannot be read ({reason}): write it again as UTF-8 text"
        ) from exc
    pictures: list[Picture] = []
    places: dict[str, int] = {}
    for number, row in enumerate(rows, start=1):
        place = f"row {number} of {table}"
        picture = _picture(row, place)
        earlier = places.setdefault(picture.path, number)
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
    return Listing(source=table, folder=table.parent, pictures=pictures)


def _picture(row: _Row, place: str) -> Picture:
    path, split = row["path"], row.get("split", "").strip().lower()
    if not path:
        raise DataDamagedError(f"{place} has no path: fill the column, or remove the row")
    if not row["label"].strip():
        raise DataDamagedError(f"{place} has no label: fill the column, or remove the row")
    if split and split not in SPLIT_NAMES:
        raise DataDamagedError(f"{place} has the split {row['split']!a}: use train, val or test")
    return Picture(
        path=path,
        label=class_name(row["label"], place),
        split=SPLIT_NAMES[split] if split else None,
        group=row.get("group") or None,
    )


def _csv(table: Path) -> Iterator[_Row]:
    with table.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file, restval="", strict=True)
        _check_columns(table, list(reader.fieldnames or ()))
        yield from reader


def _parquet(table: Path) -> Iterator[_Row]:
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
    _check_columns(table, [str(name) for name in frame.columns])
    used = [name for name in ("path", "label", "split", "group") if name in frame.columns]
    for values in zip(*(frame[name] for name in used), strict=True):
        yield {name: "" if pd.isna(value) else str(value) for name, value in zip(used, values, strict=True)}


def _check_columns(table: Path, columns: list[str]) -> None:
    missing = [name for name in ("path", "label") if name not in columns]
    if missing:
        raise DataDamagedError(
            f"table {table} has no column {' and no column '.join(missing)}: its first row must name path and label,"
            " and perhaps split and group"
        )
