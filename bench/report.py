"""What a benchmark found, as tables with hardware, versions and n: `bench/results/NAME.{json,md}`."""

from __future__ import annotations

import json
import os
import statistics
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from hpo.devices.provenance import git_commit, hardware, versions

RESULTS = Path(__file__).parent / "results"
PEERS = ("keras-tuner", "ray", "sqlalchemy", "psycopg2-binary")

Row = dict[str, Any]


@dataclass(frozen=True)
class Table:
    """Rows of the same columns."""

    title: str
    rows: Sequence[Row]

    def markdown(self) -> str:
        columns = list(dict.fromkeys(name for row in self.rows for name in row))
        lines = [columns, ["---"] * len(columns)]
        lines += [[cell(row.get(name)) for name in columns] for row in self.rows]
        return "\n".join([f"**{self.title}**", "", *(f"| {' | '.join(line)} |" for line in lines), ""])


@dataclass
class Report:
    """Fill it while measuring; `keep` leaves on disk what there is so far, `write` all of it, and prints it."""

    name: str
    title: str
    quick: bool = False
    """A smoke run: its figures say nothing, and it does not replace those of a real one."""
    done: bool = False
    """Whether all has been measured."""
    tables: list[Table] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    raw: Row = field(default_factory=dict)
    """Every single measurement."""
    began: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    commit: str | None = field(default_factory=git_commit)
    """Of the code that measures: that of the working directory may be another at the end."""
    load_before: float = field(default_factory=lambda: os.getloadavg()[0])

    def table(self, title: str, rows: Sequence[Row]) -> None:
        """Add a table, or replace the one of that title."""
        self.tables = [*(table for table in self.tables if table.title != title), Table(title, rows)]

    def note(self, *words: str) -> None:
        self.notes.extend(words)

    def markdown(self) -> str:
        """The tables, then how they came about."""
        machine = hardware()
        found = ", ".join(f"{name} {version}" for name, version in _versions().items())
        facts = [
            f"{machine['processor']}, {machine['cores']} cores, {machine['memory_gib']} GiB, {machine['system']}",
            found,
            f"Commit {self.commit}, {self.began}; load average before: {self.load_before:.1f}.",
        ]
        head = [f"# {self.title}", ""]
        if self.quick:
            head += ["**A smoke run with toy sizes: these figures say nothing.**", ""]
        if not self.done:
            head += ["**Written while it was being measured: not all of it is here.**", ""]
        return "\n".join(
            [
                *head,
                *(table.markdown() for table in self.tables),
                *(f"* {note}" for note in [*self.notes, *facts]),
                "",
            ]
        )

    def write(self, folder: Path = RESULTS) -> Path:
        """Write `NAME.json` and `NAME.md` (of a smoke run `NAME-quick`); returns the latter's path."""
        self.done = True
        path = self.keep(folder)
        print(path.read_text(), flush=True)
        return path

    def keep(self, folder: Path = RESULTS) -> Path:
        """As `write`, while there is more to measure: a run takes hours, and may be ended."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{self.name}{'-quick' if self.quick else ''}.md"
        path.write_text(self.markdown())
        values = vars(self) | {"tables": [vars(table) for table in self.tables]}
        values |= {"hardware": hardware(), "versions": _versions()}
        path.with_suffix(".json").write_text(json.dumps(values, indent=1, default=str) + "\n")
        return path


def cell(value: Any) -> str:
    """A value as it stands in a table: numbers to three digits."""
    match value:
        case None:
            return "–"
        case bool():
            return "yes" if value else "no"
        case float():
            return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
        case int():
            return f"{value:,}"
    return str(value).replace("|", "\\|")


def median(values: Sequence[float]) -> float | None:
    """None of nothing."""
    return statistics.median(values) if values else None


def spread(values: Sequence[float], digits: int = 1) -> str:
    """Median, with lowest and highest where there are several."""
    if not values:
        return "–"
    middle = f"{statistics.median(values):.{digits}f}"
    return middle if len(values) == 1 else f"{middle} ({min(values):.{digits}f}–{max(values):.{digits}f})"


def ratio(value: float | None, base: float | None) -> float | None:
    """How many times `base` a value is."""
    return value / base if value is not None and base else None


def _versions() -> dict[str, str]:
    found = versions()
    for name in PEERS:
        with suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found
