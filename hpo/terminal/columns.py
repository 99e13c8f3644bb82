"""Columns that text takes on a terminal: its width, spaces up to one, and lines that break between words."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from typing import TextIO

LEAST_COLUMNS = 20
"""Columns below which lines are left as they are."""
_USUAL_COLUMNS = 80
_HANGING = "  "
"""Indentation of the lines that continue one."""

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_WORD = re.compile(
    r"[(`]*hpo [a-z]+(?: --?[a-z][\w-]*(?: (?!or\b|and\b)[^\s,;:()-][^\s,;:()]*)?)*[,;:.)`]*|\S+"
)
"""A command with its options, which is pasted into a shell, or a word."""


def display_width(text: str) -> int:
    """Return the columns that text takes on a terminal: two for a character of East Asia, none for a colour."""
    text = _COLOUR.sub("", text)
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)


def padded(text: str, columns: int, *, right: bool = False) -> str:
    """Return printable text, filled with spaces to this many columns."""
    spaces = " " * (columns - display_width(text))
    return spaces + text if right else text + spaces


def columns_of(stream: TextIO) -> int | None:
    """Return the width of the terminal that a stream writes to, or COLUMNS if that is set; None: it is no terminal."""
    if not stream.isatty():
        return None
    with suppress(KeyError, ValueError):
        if (given := int(os.environ["COLUMNS"])) > 0:
            return given
    with suppress(OSError, ValueError):
        return os.get_terminal_size(stream.fileno()).columns or _USUAL_COLUMNS
    return _USUAL_COLUMNS


def fitted(text: str, stream: TextIO) -> str:
    """Return printable text whose lines fit the terminal of a stream; without a terminal, the text as it is."""
    columns = columns_of(stream)
    return text if columns is None else wrapped(text, columns)


def wrapped(text: str, columns: int) -> str:
    """Return printable text in lines of at most `columns`, broken between words, and not within a command if it fits.

    A word that is longer has a line of its own, which the terminal breaks. Lines that continue one are indented.
    """
    return "\n".join(part for line in text.split("\n") for part in _lines(line, columns))


def _lines(line: str, columns: int) -> list[str]:
    if columns < LEAST_COLUMNS or display_width(line) <= columns:
        return [line]
    indent = line[: len(line) - len(line.lstrip(" "))]
    lines, rest = [indent], line[len(indent) :]
    for word in _words(rest, columns - len(indent) - len(_HANGING)):
        begun = lines[-1].strip(" ")
        if begun and display_width(lines[-1]) + 1 + display_width(word) > columns:
            lines.append(indent + _HANGING + word)
        else:
            lines[-1] += f" {word}" if begun else word
    return lines


def _words(text: str, columns: int) -> list[str]:
    """Return the words of a text; a command that fits into `columns` is one of them."""
    found = _WORD.findall(text)
    return [part for word in found for part in ([word] if display_width(word) <= columns else word.split())]
