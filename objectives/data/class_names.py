"""Names of classes, labels and inputs, and their order."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

from objectives.data.errors import ArrayInvalidError
from objectives.names import MOST_NAME, is_usable

T = TypeVar("T")

LABEL_SEPARATOR = "|"
"""Character between the names of an example's labels."""
_SHOWN = 60


def sorted_classes(names: Iterable[str]) -> tuple[str, ...]:
    """Return the names sorted: as numbers if all are whole numbers."""
    found = list(names)
    if all(name.isascii() and name.isdecimal() for name in found):
        return tuple(sorted(found, key=lambda name: (int(name), name)))
    return tuple(sorted(found))


def are_fractions(names: Sequence[str]) -> bool:
    """Return whether all names are numbers, and not all of them whole."""
    try:
        return not all(float(name).is_integer() for name in names)
    except ValueError:
        return False


def composed(text: str) -> str:
    """Return text in Unicode's composed form, in which names from any system are equal."""
    return unicodedata.normalize("NFC", text)


def check_names(names: Sequence[object]) -> None:
    """Check names before any training, because a final run records tables by them.

    Raises:
        ArrayInvalidError: one cannot be recorded, or there twice.
    """
    unusable = next((name for name in names if not is_usable(name)), None)
    if unusable is not None:
        shown = ascii(unusable) if len(ascii(unusable)) <= _SHOWN else f"{ascii(unusable)[:_SHOWN]}…"
        raise ArrayInvalidError(
            f"{shown} names a class, label or target: use 1 to {MOST_NAME} printable characters"
        )
    name, count = Counter(names).most_common(1)[0] if names else (None, 0)
    if count > 1:
        raise ArrayInvalidError(f"{name!a} names {count} classes, labels or targets: name each differently")


def by_name(inputs: Mapping[object, T], place: str = "") -> dict[str, T]:
    """Return inputs by the text of their keys, which names them.

    Raises:
        ArrayInvalidError: two keys have the same text, such as 1 and "1".
    """
    found = {str(key): value for key, value in inputs.items()}
    if len(found) < len(inputs):
        name, _ = Counter(map(str, inputs)).most_common(1)[0]
        twice = " and ".join(repr(key) for key in inputs if str(key) == name)
        raise ArrayInvalidError(f"{place} has inputs of one name ({twice}): name each differently".lstrip())
    return found
