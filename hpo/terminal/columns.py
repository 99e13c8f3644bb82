"""Columns that text takes on a terminal, and text filled with spaces to a number of them."""

from __future__ import annotations


def display_width(text: str) -> int:
    """Return the columns that printable text takes on a terminal: two for a character of East Asia."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)


def padded(text: str, columns: int, *, right: bool = False) -> str:
    """Return printable text, filled with spaces to this many columns."""
    spaces = " " * (columns - display_width(text))
    return spaces + text if right else text + spaces
