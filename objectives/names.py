"""The names that metrics, records and classes may have."""

from __future__ import annotations

import unicodedata

MOST_NAME = 200
"""Largest number of characters of a name."""

_UNREADABLE = {"Cc", "Cs", "Zl", "Zp"}
"""Categories of control characters, bytes that are not UTF-8, and ends of lines."""


def is_text(name: str) -> bool:
    """Return whether a name can be read in a line: it has a visible character, and no control character.

    Some scripts need characters that are not printable by themselves, such as joiners and wide spaces.
    """
    hidden = {unicodedata.category(character) for character in name if not character.isprintable()}
    return not hidden & _UNREADABLE and any(one.isprintable() and not one.isspace() for one in name)


def is_usable(name: object) -> bool:
    """Return whether the name of a class can be a key in the records of a final run."""
    return isinstance(name, str) and len(name) <= MOST_NAME and is_text(name)
