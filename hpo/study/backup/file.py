"""The file of a backup: gzipped JSON lines, a header, one line for each row, and the number of rows.

A file may be damaged or made to harm, so its lines are bounded and each row is checked when it is read.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections import Counter
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from hpo.errors import BackupFileError
from hpo.study.backup.schema import check_row, check_tables, table_named
from storage.study_dump import DumpedRow, with_todays_names

FORMAT = 1
"""Version of the file format."""

LINE_CHARACTERS = 32 * 2**20
"""Longest line: a retrain's results. A small compressed file may hold a line that fills the memory."""

LINE_VALUES = 500_000
"""Largest number of lists and objects in a line: an empty one takes 20 times its characters in memory."""

MOST_ROWS = 4_000_000
"""Largest number of trials, attempts or agents, whose ids are kept in memory."""


@dataclass(frozen=True, kw_only=True)
class Header:
    """First line of a backup."""

    study: str
    trials: int
    tables: dict[str, str]
    """Revisions of our tables and of Optuna's."""
    version: str
    """Version of hpo-service that wrote it."""


class BackupRows:
    """Iterable of the rows of a file, each of which is checked."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.read = 0
        """Number of rows of the last iteration."""
        self.reservations: tuple[int, int] | None = None
        """Lowest and highest reservation_id of the last complete iteration; None without trials."""

    def __iter__(self) -> Generator[DumpedRow]:
        """Yield each row.

        Raises:
            BackupFileError: the file is damaged, or a row breaks a rule.
        """
        self.read, counts = 0, Counter[str]()
        reservations: list[int] = []
        directions: set[str] = set()
        with opened(self._path) as file:
            _line(file)
            while line := _line(file):
                entry = _parsed(line)
                if "table" not in entry:
                    if entry.get("rows") != self.read:
                        raise ValueError("the row count in its last line is wrong")
                    check_tables(counts)
                    if len(directions) != 1:
                        raise ValueError("its rows contradict each other in the study's direction")
                    self.reservations = (reservations[0], reservations[-1]) if reservations else None
                    return
                table = table_named(entry["table"])
                row = with_todays_names(table, dict(entry["row"]))
                check_row(table, row)
                counts[table.name] += 1
                if counts[table.name] > MOST_ROWS and table.own is not None and table.referred_to:
                    raise ValueError(f"it holds more than {MOST_ROWS} rows of {table.name}")
                if table.name == "hpo.trials":
                    known = [*reservations, row["reservation_id"]]
                    reservations = [min(known), max(known)]
                elif table.name == "hpo.studies":
                    directions.add(row["spec"]["direction"].upper())
                elif table.name == "public.study_directions":
                    directions.add(row["direction"])
                yield DumpedRow(table, row, len(line))
                self.read += 1
        raise damaged(self._path, "it is truncated")


def read_header(path: Path) -> Header:
    """Return the first line of a file.

    Raises:
        BackupFileError: the file is missing, damaged, or of another format.
    """
    with opened(path) as file:
        values = _parsed(_line(file))
        if "format" not in values:
            raise ValueError("it does not begin like a backup")
        if values["format"] != FORMAT:
            raise BackupFileError(
                f"{path} is a backup of format {values['format']!r}, and this hpo-service reads {FORMAT}:"
                " use a newer one"
            )
        missing = {"study", "trials", "tables", "versions"} - values.keys()
        if missing:
            raise ValueError(f"its first line lacks {', '.join(sorted(missing))}")
        return Header(
            study=str(values["study"]),
            trials=int(values["trials"]),
            tables={str(name): str(revision) for name, revision in dict(values["tables"]).items()},
            version=str(dict(values["versions"]).get("hpo-service", "?")),
        )


def damaged(path: Path, reason: str) -> BackupFileError:
    """Return the error of a file that cannot be restored."""
    return BackupFileError(
        f"{path} is not a complete backup of a study ({reason}): create a new one with hpo backup"
    )


@contextmanager
def opened(path: Path) -> Iterator[IO[str]]:
    """Open a backup as text; any error of the file becomes a BackupFileError."""
    try:
        with gzip.open(path, "rt", encoding="utf-8") as file:
            yield file
    except FileNotFoundError as exc:
        raise BackupFileError(f"there is no file {path}: check its name") from exc
    except (EOFError, zlib.error) as exc:
        raise damaged(path, "it is truncated or damaged") from exc
    except OSError as exc:
        # Includes gzip.BadGzipFile.
        raise damaged(path, exc.strerror or str(exc)) from exc
    except (ValueError, TypeError, KeyError) as exc:
        raise damaged(path, " ".join(str(exc).split())) from exc
    except RecursionError as exc:
        raise damaged(path, "a line is nested too deeply") from exc


def _line(file: IO[str]) -> str:
    """Return the next line, empty at the end."""
    line = file.readline(LINE_CHARACTERS + 1)
    if len(line) > LINE_CHARACTERS:
        raise ValueError(f"a line is longer than {LINE_CHARACTERS} characters")
    if line.count("[") + line.count("{") > LINE_VALUES:
        raise ValueError(f"a line holds more than {LINE_VALUES} lists and objects")
    return line


def _parsed(line: str) -> dict[str, Any]:
    entry = json.loads(line)
    if not isinstance(entry, dict):
        raise ValueError("a line is not a JSON object")
    # Only an escape can stand for a character that neither PostgreSQL nor UTF-8 can hold.
    if "\\u" in line and not _is_storable(entry):
        raise ValueError("a text contains NUL or half a character")
    return entry


def _is_storable(value: Any) -> bool:
    match value:
        case str():
            return not any(character == "\0" or "\ud800" <= character <= "\udfff" for character in value)
        case dict():
            return all(_is_storable(part) for pair in value.items() for part in pair)
        case list():
            return all(_is_storable(part) for part in value)
    return True
