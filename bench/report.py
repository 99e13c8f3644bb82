"""Reports of benchmarks, as tables with hardware, versions and n: `bench/results/NAME.{json,md}`."""

from __future__ import annotations

import json
import os
import statistics
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import KW_ONLY, dataclass, field
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
    """A table; rows can lack columns."""

    title: str
    rows: Sequence[Row]

    def markdown(self) -> str:
        columns = list(dict.fromkeys(name for row in self.rows for name in row))
        lines = [columns, ["---"] * len(columns)]
        lines += [[cell(row.get(name)) for name in columns] for row in self.rows]
        return "\n".join([f"**{self.title}**", "", *(f"| {' | '.join(line)} |" for line in lines), ""])


@dataclass
class Report:
    """Fill it while measuring; `keep` writes the results so far, `write` writes and prints the final ones."""

    name: str
    title: str
    _: KW_ONLY
    quick: bool = False
    """Whether this is a smoke run, whose figures are meaningless and do not replace those of a real run."""
    done: bool = False
    """Whether the measurements are complete."""
    tables: list[Table] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    raw: Row = field(default_factory=dict)
    """All single measurements."""
    began: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    commit: str | None = field(default_factory=git_commit)
    """Commit of the code that measures; at the end, the working directory may have another."""
    load_before: float = field(default_factory=lambda: os.getloadavg()[0])

    def table(self, title: str, rows: Sequence[Row]) -> None:
        """Add a table, or replace the one with that title."""
        self.tables = [*(table for table in self.tables if table.title != title), Table(title, rows)]

    def note(self, *notes: str) -> None:
        self.notes.extend(notes)

    def markdown(self) -> str:
        """Return the tables, then notes about the measurement."""
        machine = hardware()
        found = ", ".join(f"{name} {version}" for name, version in _versions().items())
        facts = [
            f"{machine['processor']}, {machine['cores']} cores, {machine['memory_gib']} GiB, {machine['system']}",
            found,
            f"Commit {self.commit}, {self.began}; load average before: {self.load_before:.1f}.",
        ]
        head = [f"# {self.title}", ""]
        if self.quick:
            head += ["**Smoke run with toy sizes: these figures are meaningless.**", ""]
        if not self.done:
            head += ["**Incomplete: written during the measurement.**", ""]
        return "\n".join(
            [
                *head,
                *(table.markdown() for table in self.tables),
                *(f"* {note}" for note in [*self.notes, *facts]),
                "",
            ]
        )

    def write(self, folder: Path = RESULTS) -> Path:
        """Write `NAME.json` and `NAME.md` (`NAME-quick` for a smoke run), print the latter and return its path."""
        self.done = True
        path = self.keep(folder)
        print(path.read_text(), flush=True)
        return path

    def keep(self, folder: Path = RESULTS) -> Path:
        """Write the results so far, because a run takes hours and may be interrupted."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{self.name}{'-quick' if self.quick else ''}.md"
        path.write_text(self.markdown())
        values = vars(self) | {"tables": [vars(table) for table in self.tables]}
        values |= {"hardware": hardware(), "versions": _versions()}
        path.with_suffix(".json").write_text(json.dumps(values, indent=1, default=str) + "\n")
        return path


def cell(value: Any) -> str:
    """Format a value for a table: numbers with three digits."""
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
    """Return the median; None if there are no values."""
    return statistics.median(values) if values else None


def spread(values: Sequence[float], digits: int = 1) -> str:
    """Format the median, with minimum and maximum if there are several values."""
    if not values:
        return "–"
    middle = f"{statistics.median(values):.{digits}f}"
    return middle if len(values) == 1 else f"{middle} ({min(values):.{digits}f}–{max(values):.{digits}f})"


def ratio(value: float | None, base: float | None) -> float | None:
    """Return `value / base`; None without one of them."""
    return value / base if value is not None and base else None


def _versions() -> dict[str, str]:
    found = versions()
    for name in PEERS:
        with suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found
