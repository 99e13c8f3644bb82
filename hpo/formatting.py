"""Formatting of numbers for people and for machines, the same in every command and file."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, ClassVar, TypeVar

from objectives.spaces.references import shown, with_short_names

T = TypeVar("T")


_CONTROL = re.compile(r"[\0-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters but tab and line feed, marks that reverse the direction of text, and halves of characters."""


def printable(text: str) -> str:
    """Return the text with each control character replaced by a question mark.

    Names, errors and output of objectives may hold sequences that write to a terminal's clipboard or title, or hide
    text.
    """
    return text if text.isprintable() else _CONTROL.sub("?", text)


def table_cell(text: str) -> str:
    """Return the text as a cell of a table: on one line, and printable."""
    return printable(text).replace("\n", "?").replace("\t", "?")


def csv_cell(value: object) -> object:
    """Return a cell that no spreadsheet takes for a formula, and no terminal for a command.

    Text that begins like a formula gets an apostrophe.
    """
    value = named(value)
    if not isinstance(value, str):
        return value
    value = printable(value)
    if not value.startswith(("=", "+", "-", "@", "\t", "\n")):
        return value
    try:
        float(value)
    except ValueError:
        return f"'{value}"
    return value


def metric(value: float | None) -> str:
    """Return a metric with 4 decimals; very small ones have 4 significant digits, large ones no decimals."""
    if value is None:
        return "-"
    if value == 0 or 1e-3 <= abs(value) < 1e4:
        return f"{value:.4f}"
    return f"{value:.0f}" if 1e4 <= abs(value) < 1e12 else f"{value:.4g}"


def quantity(value: float) -> str:
    """Return a number of a data set with 4 significant digits, e.g. `0.0123`; large ones are whole, e.g. `420,600`."""
    return f"{value:,.0f}" if 1e4 <= abs(value) < 1e12 else f"{value:.4g}"


def parameter(value: object) -> str:
    """Return a parameter on one line; floats have 3 significant digits, objects their short names.

    A string that would be read as another value, such as "1", or that looks like a missing value, is in quotes.
    """
    return f"{value:.3g}" if isinstance(value, float) else shown(value)


def named(value: Any) -> Any:
    """Return a parameter as it is, or as text if it is an object or holds one."""
    short = with_short_names(value)
    return value if short is value or short == value else parameter(value)


def parameters(values: Mapping[str, object] | None) -> str:
    """Return `name=value` pairs on one line."""
    return " ".join(f"{name}={parameter(value)}" for name, value in (values or {}).items())


def in_order(values: Mapping[str, T], names: Iterable[str]) -> dict[str, T]:
    """Return the values in the order of the names, the ones without a name last."""
    return {name: values[name] for name in dict.fromkeys([*names, *values]) if name in values}


def apart(names: Iterable[str], taken: Collection[str], prefix: str) -> dict[str, str]:
    """Return a heading for each name: itself, or with the prefix where another one is or looks the same.

    A name that a spreadsheet would take for a formula gets the prefix too.
    """
    names = list(dict.fromkeys(names))
    seen = Counter(_heading(name) for name in (*names, *dict.fromkeys(taken)))
    used = {*taken, *names}
    headings = {}
    for name in names:
        headings[name] = name
        if seen[_heading(name)] > 1 or csv_cell(name) != name:
            while headings[name] in used or _heading(headings[name]) in seen:
                headings[name] = prefix + headings[name]
            used.add(headings[name])
    return headings


def _heading(name: str) -> str:
    return " ".join(printable(name).split())


def duration(seconds: float | None) -> str:
    """Return e.g. `8.2s`, `3m05s`, `2h07m`, `3d04h`."""
    if seconds is None or not math.isfinite(seconds):
        return "-"
    if seconds < 59.95:
        return f"{seconds:.1f}s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    if whole < 86400:
        return f"{whole // 3600}h{whole % 3600 // 60:02d}m"
    return f"{whole // 86400}d{whole % 86400 // 3600:02d}h"


def fine_duration(seconds: float | None) -> str:
    """Return a duration with three digits below ten seconds, e.g. `0.128s`, for times that add up to long ones."""
    return f"{seconds:.3g}s" if seconds is not None and seconds < 9.995 else duration(seconds)


def times(count: int) -> str:
    """Return `never`, `once`, `2 times`."""
    return {0: "never", 1: "once"}.get(count, f"{count} times")


def joined(names: Sequence[str], last: str = "and") -> str:
    """Return e.g. `a`, `a and b`, `a, b and c`."""
    return f" {last} ".join(part for part in (", ".join(names[:-1]), *names[-1:]) if part)


def counted(number: object, noun: str, plural: str | None = None) -> str:
    """Return `1 core`, `2 cores`, or `? cores` if the number is unknown; `plural` if it is not formed with an s."""
    return f"{'?' if number is None else number} {noun if number == 1 else plural or noun + 's'}"


def ranges(numbers: Iterable[int]) -> str:
    """Return whole numbers in order, e.g. `0-3, 5, 7-9`."""
    found: list[list[int]] = []
    for number in sorted(numbers):
        if found and number == found[-1][1] + 1:
            found[-1][1] = number
        else:
            found.append([number, number])
    return ", ".join(str(low) if low == high else f"{low}-{high}" for low, high in found)


def p_value(value: float | None) -> str:
    """Return a p-value with 3 decimals, e.g. `0.031` or `< 0.001`."""
    if value is None:
        return "-"
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def size(count: float) -> str:
    """Return bytes in binary units, e.g. `3.2 GiB`."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def json_safe(value: Any) -> Any:
    """Return the value with times in ISO 8601, and NaN and infinities as strings, because JSON lacks them."""
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, float) and not math.isfinite(value):
        return "nan" if math.isnan(value) else "inf" if value > 0 else "-inf"
    if isinstance(value, Mapping):
        return {str(key): json_safe(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [json_safe(item) for item in value]
    return value


@dataclass(frozen=True)
class JsonRow:
    """A row that a command prints as text or JSON."""

    json_keys: ClassVar[Mapping[str, str]] = {}
    """Keys in JSON of fields whose names differ from them."""

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-serializable dict, by `json_safe`."""
        return {self.json_keys.get(name, name): json_safe(value) for name, value in asdict(self).items()}


def json_text(value: Any) -> str:
    """Return a value as indented JSON that every parser reads, each list of numbers on one line.

    Control characters are escaped, all that a terminal obeys included.
    """
    text = json.dumps(json_safe(value), indent=2, allow_nan=False, ensure_ascii=False)
    text = _CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
    # A string holds no line break, so a bracket followed by one is never part of a string.
    return (
        re.sub(r'\[\n\s+([^\[\]{}"]*?)\n\s*\]', lambda found: f"[{' '.join(found[1].split())}]", text) + "\n"
    )


def json_number(value: float | str | None) -> float | None:
    """Invert `json_safe` for one number."""
    return None if value is None else float(value)
