"""How commands print: rich tables on a terminal, aligned plain text that greps well everywhere else."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterable, Sequence
from typing import Any

import click

from hpo.numbers import json_safe


def on_terminal() -> bool:
    """Whether someone looks at what is printed."""
    return sys.stdout.isatty()


def echo_json(value: Any, indent: int | None = 2) -> None:
    """Print JSON as every parser reads it: NaN and infinities are strings."""
    click.echo(json.dumps(json_safe(value), indent=indent, allow_nan=False, ensure_ascii=False))


def echo_table(
    headers: Sequence[str], rows: Iterable[Sequence[str]], right: Iterable[str] = (), title: str | None = None
) -> None:
    """Print a table; columns named in `right` are aligned right. Plain cells are two spaces apart."""
    body = [list(row) for row in rows]
    aligned = set(right)
    if on_terminal():
        from rich.box import SIMPLE_HEAD
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        table = Table(box=SIMPLE_HEAD, title=title, title_justify="left", pad_edge=False)
        for header in headers:
            table.add_column(header, justify="right" if header in aligned else "left", overflow="fold")
        for row in body:
            table.add_row(*(Text(cell) for cell in row))
        Console().print(table)
        return
    if title:
        click.echo(title)
    click.echo("\n".join(plain_table(headers, body, aligned)))


def plain_table(
    headers: Sequence[str], rows: Sequence[Sequence[str]], right: Iterable[str] = ()
) -> list[str]:
    """Aligned lines; an empty cell is `-`, so that columns can be counted."""
    aligned = set(right)
    cells = [list(headers), *([cell or "-" for cell in row] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(headers))]
    return [
        "  ".join(
            cell.rjust(width) if header in aligned else cell.ljust(width)
            for cell, width, header in zip(row, widths, headers, strict=True)
        ).rstrip()
        for row in cells
    ]


def echo_facts(facts: Iterable[tuple[str, str]]) -> None:
    """Print `name  value` lines."""
    pairs = list(facts)
    width = max((len(name) for name, _ in pairs), default=0)
    for name, value in pairs:
        click.echo(f"{click.style(name.ljust(width), bold=True)}  {value}")


def echo_csv(headers: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print CSV: None is empty, numbers are as precise as they were stored."""
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(headers)
    writer.writerows(rows)
