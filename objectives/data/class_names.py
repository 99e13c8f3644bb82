"""Names of classes and labels, and their order."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence

LABEL_SEPARATOR = "|"
"""Character between the names of an example's labels."""


_UNREADABLE = {"Cc", "Cs", "Zl", "Zp"}
"""Categories of control characters, bytes that are no UTF-8, and ends of lines."""


def sorted_classes(names: Iterable[str]) -> tuple[str, ...]:
    """Return the names sorted: as numbers if all are whole numbers."""
    found = list(names)
    if all(name.isascii() and name.isdecimal() for name in found):
        return tuple(sorted(found, key=lambda name: (int(name), name)))
    return tuple(sorted(found))


def is_text(name: str) -> bool:
    """Return whether a name can be read in a line: it has a visible character, and no control character.

    Some scripts need characters that are not printable by themselves, such as joiners and wide spaces.
    """
    hidden = {unicodedata.category(character) for character in name if not character.isprintable()}
    return not hidden & _UNREADABLE and any(one.isprintable() and not one.isspace() for one in name)


def are_fractions(names: Sequence[str]) -> bool:
    """Return whether all names are numbers, and not all of them whole."""
    try:
        return not all(float(name).is_integer() for name in names)
    except ValueError:
        return False


def composed(text: str) -> str:
    """Return text in Unicode's composed form, in which names from any system are equal."""
    return unicodedata.normalize("NFC", text)
