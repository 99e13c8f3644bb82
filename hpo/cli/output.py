"""Output of commands: rich tables on a terminal, aligned plain text for grep everywhere else."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterable, Sequence
from typing import Any

import click

from hpo.formatting import csv_cell, json_safe, printable, table_cell
from hpo.terminal.columns import LEAST_COLUMNS, columns_of, display_width, fitted, padded, wrapped
from hpo.terminal.safe_output import safe_console

_GAP = 2
"""Characters between two columns on a terminal."""
_LEAST, _MOST = 10, 32
"""Bounds of the width that a wrapping column keeps before other columns are dropped: its longest word."""


def on_terminal() -> bool:
    """Return whether standard output is a terminal."""
    return sys.stdout.isatty()


def echo_text(text: str = "", *, err: bool = False) -> None:
    """Print sentences; on a terminal, lines are broken between words, and commands stay whole where they fit."""
    click.echo(fitted(text, sys.stderr if err else sys.stdout), err=err)


def echo_json(value: Any, indent: int | None = 2) -> None:
    """Print JSON that every parser reads: NaN and infinities are strings."""
    click.echo(json.dumps(json_safe(value), indent=indent, allow_nan=False, ensure_ascii=False))


def echo_table(
    headers: Sequence[str],
    rows: Iterable[Sequence[str]],
    right: Iterable[str] = (),
    wrap: Iterable[str] = (),
    drop: Iterable[str] = (),
) -> None:
    """Print a table; columns named in `right` are aligned right. Plain cells are two spaces apart.

    On a narrow terminal, columns of `drop` are left out, in this order, and those of `wrap` take several
    lines; no word is broken, and text that is still too long ends in an ellipsis.
    """
    click.echo(table_text(headers, rows, right, wrap, drop))


def table_text(
    headers: Sequence[str],
    rows: Iterable[Sequence[str]],
    right: Iterable[str] = (),
    wrap: Iterable[str] = (),
    drop: Iterable[str] = (),
) -> str:
    """Return the lines of `echo_table`."""
    # Before the widths of columns are measured.
    body = [[table_cell(cell) for cell in row] for row in rows]
    aligned = set(right)
    if on_terminal():
        from rich.box import SIMPLE_HEAD
        from rich.table import Table
        from rich.text import Text

        console, flexible = safe_console(), set(wrap)
        kept = _that_fit(headers, body, flexible, drop, console.width)
        table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
        for column, width in kept.items():
            header = headers[column]
            table.add_column(
                Text(header),
                justify="right" if header in aligned else "left",
                no_wrap=header not in flexible,
                overflow="ellipsis",
                width=width,
            )
        for row in body:
            table.add_row(*(Text(row[column]) for column in kept))
        with console.capture() as captured:
            console.print(table)
        return captured.get().rstrip("\n")
    return "\n".join(plain_table(headers, body, aligned))


def fits(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> bool:
    """Return whether each row fits on one line; without a terminal it always does."""
    if not on_terminal():
        return True
    return sum(_widths(headers, rows)) + _GAP * (len(headers) - 1) <= safe_console().width


def _that_fit(
    headers: Sequence[str],
    rows: Sequence[Sequence[str]],
    flexible: set[str],
    drop: Iterable[str],
    width: int,
) -> dict[int, int | None]:
    """Return the indices of the columns to show in `width` characters, each with its width; None: rich decides."""
    natural = _widths(headers, rows)
    words = _widths(headers, [[max(cell.split(), key=len, default="") for cell in row] for row in rows])
    chosen = {
        column: min(natural[column], max(_LEAST, min(words[column], _MOST)))
        if name in flexible
        else natural[column]
        for column, name in enumerate(headers)
    }
    # A column that no row needs may be missing.
    for name in (*(name for name in drop if name in headers), None):
        spare = width - sum(chosen.values()) - _GAP * (len(chosen) - 1)
        if spare >= 0:
            break
        if name is None:
            # rich shortens texts.
            return dict.fromkeys(chosen)
        chosen.pop(headers.index(name))
    for column in reversed(chosen):
        more = min(spare, natural[column] - chosen[column])
        chosen[column] += more
        spare -= more
    return dict(chosen)


def _widths(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> list[int]:
    return [
        max(display_width(text) for text in (header, *(row[column] for row in rows)))
        for column, header in enumerate(headers)
    ]


def plain_table(
    headers: Sequence[str], rows: Sequence[Sequence[str]], right: Iterable[str] = ()
) -> list[str]:
    """Return aligned lines; an empty cell is `-`, so that columns can be counted."""
    aligned = set(right)
    cells = [list(headers), *([cell or "-" for cell in row] for row in rows)]
    widths = _widths(headers, cells)
    return [
        "  ".join(
            padded(cell, columns, right=header in aligned)
            for cell, columns, header in zip(row, widths, headers, strict=True)
        ).rstrip()
        for row in cells
    ]


def echo_facts(facts: Iterable[tuple[str, str]]) -> None:
    """Print `name  value` lines; on a terminal, long values continue below their beginning."""
    for line in fact_lines([(table_cell(name), printable(value)) for name, value in facts], bold=True):
        click.echo(line)


def fact_lines(facts: Sequence[tuple[str, str]], *, least: int = 0, bold: bool = False) -> list[str]:
    """Return the lines of `echo_facts`; names take `least` columns or more."""
    width = max((display_width(name) for name, _ in facts), default=0)
    width = max(least, width)
    columns = columns_of(sys.stdout)
    left = None if columns is None else columns - width - _GAP
    lines = []
    for name, value in facts:
        shown = padded(name, width)
        start = click.style(shown, bold=True) if bold else shown
        if columns is not None and left is not None and left < LEAST_COLUMNS:
            lines += wrapped(f"{shown}{' ' * _GAP}{value}", columns).split("\n")
            continue
        first, *rest = [value] if left is None else wrapped(value, left).split("\n")
        lines += [f"{start}{' ' * _GAP}{first}", *(f"{' ' * (width + _GAP)}{line.strip()}" for line in rest)]
    return lines


def echo_csv(headers: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print CSV: None is empty, numbers have full precision."""
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow([csv_cell(header) for header in headers])
    writer.writerows([csv_cell(cell) for cell in row] for row in rows)
