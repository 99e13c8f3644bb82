"""The inputs that a user names: image files, folders of them, tables, lists of paths on standard input, and arrays."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from hpo.errors import DataDamagedError, DataMissingError
from hpo.formatting import table_cell
from hpo.terminal.columns import display_width
from objectives.images.folders import images_in
from objectives.images.tables import EXTENSIONS as TABLES

LIST = "-"
"""Argument that stands for a list of paths on standard input."""
_STANDARD_INPUT = (LIST, "/dev/stdin", "/dev/fd/0", "/proc/self/fd/0")
"""Arguments that are standard input."""
ARRAYS = (".npy", ".npz")
_BLOCK = 1 << 16


@dataclass(frozen=True)
class Survey:
    """Facts on image sources, before any image is read."""

    count: int | None
    """Number of images; None if standard input has the list."""
    longest: int
    """Columns that the longest path takes in a table."""


def is_array(argument: str) -> bool:
    """Return whether an argument names a file of arrays."""
    return argument.lower().endswith(ARRAYS)


def is_list(argument: str) -> bool:
    """Return whether an argument stands for a list of paths on standard input."""
    return argument in _STANDARD_INPUT


def survey(arguments: Sequence[str]) -> Survey:
    """Count the images that the arguments name, without keeping their paths.

    Raises:
        DataMissingError: there is no such file or folder, or a folder has no image.
        DataDamagedError: a folder or table cannot be read.
    """
    count, longest = 0, 0
    for argument in arguments:
        if is_list(argument):
            continue
        found = 0
        for path in _paths(argument):
            found += 1
            longest = max(longest, display_width(table_cell(path)))
        if not found:
            raise DataMissingError(
                f"{argument} has no image: give image files, or a folder with some (JPEG, PNG, WebP, BMP or TIFF)"
            )
        count += found
    return Survey(None if any(map(is_list, arguments)) else count, longest)


def image_paths(arguments: Iterable[str], listed: BinaryIO | None) -> Iterator[str]:
    """Yield the path of each image that the arguments name, in their order; `-` is the list `listed`, if there is one.

    Raises:
        DataMissingError, DataDamagedError: as `survey`.
    """
    for argument in arguments:
        yield from (_listed(listed) if is_list(argument) and listed is not None else _paths(argument))


def _paths(argument: str) -> Iterator[str]:
    path = Path(argument)
    # An empty name would stand for the working directory.
    if not argument or not _exists(argument):
        raise DataMissingError(f"there is no file or folder {argument or repr(argument)}: check its name")
    if path.is_fifo() or path.is_socket():
        raise DataMissingError(
            f"{argument} is a pipe and not a file: give a list of paths on standard input, as in find photos -name"
            " '*.jpg' | hpo predict … -"
        )
    if path.is_dir():
        yield from images_in(path)
    elif path.suffix.lower() in TABLES and path.is_file():
        yield from _of_table(path)
    else:
        yield argument


def _exists(name: str) -> bool:
    try:
        return os.path.lexists(name)
    except (OSError, ValueError):
        return False


def _of_table(table: Path) -> Iterator[str]:
    """Yield the column `path` of a table; relative paths start from its folder, as in a table to train on."""
    try:
        if table.suffix.lower() == ".csv":
            with table.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
                reader = csv.DictReader(file, restval="")
                if "path" not in (reader.fieldnames or ()):
                    raise DataDamagedError(
                        f"table {table} has no column path: its first row must name the columns"
                    )
                yield from (str(table.parent / row["path"]) for row in reader if row["path"])
            return
        import pandas as pd

        frame = pd.read_parquet(table, columns=["path"])
    except (OSError, ValueError, csv.Error, ImportError) as exc:
        raise DataDamagedError(
            f"table {table} cannot be read ({' '.join(str(exc).split())}): write it again as CSV in UTF-8"
        ) from exc
    yield from (str(table.parent / str(path)) for path in frame["path"])


def _listed(stream: BinaryIO) -> Iterator[str]:
    """Yield the paths of a list: one on each line, or separated by NUL as `find -print0` writes them.

    Lines may end as on Windows; each path is yielded as soon as it is read.
    """
    read = getattr(stream, "read1", stream.read)
    rest, separator = b"", None

    def line(path: bytes) -> bytes:
        return path if separator == b"\0" else path.removesuffix(b"\r")

    while block := read(_BLOCK):
        rest += block
        if separator is None:
            separator = b"\0" if b"\0" in rest else b"\n" if b"\n" in rest else None
        if separator is not None:
            *paths, rest = rest.split(separator)
            yield from (os.fsdecode(path) for path in map(line, paths) if path)
    if last := line(rest.removesuffix(b"\n")):
        yield os.fsdecode(last)
