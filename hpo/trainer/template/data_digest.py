"""Digest of the data that an objective has loaded, to detect that processes have loaded different data."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import is_dataclass
from itertools import islice
from typing import Any

import numpy as np

MOST_VALUES = 1 << 16
"""Number of values of each array that are digested, evenly spread."""
MOST_DEPTH = 4
"""Levels of containers in which arrays are found."""
MOST_ARRAYS = 1000
"""Number of arrays, and of items of each container, that are looked at."""


def data_digest(objective: object) -> str:
    """Return a digest of the NumPy arrays among an objective's attributes; empty if there is none.

    A sample of each array, so that large data costs little; data that is drawn, mixed or split at random differs
    nearly everywhere.
    """
    found, count = hashlib.blake2b(digest_size=8), 0
    for name, array in islice(_arrays(vars(objective), "", MOST_DEPTH), MOST_ARRAYS):
        step = max(1, array.size // MOST_VALUES)
        found.update(f"{name} {array.shape} {array.dtype} ".encode())
        found.update(np.ascontiguousarray(array.flat[::step]).tobytes())
        count += 1
    return found.hexdigest() if count else ""


def arrays_of(objective: object) -> list[np.ndarray[Any, Any]]:
    """Return the NumPy arrays among an objective's attributes."""
    attributes = getattr(objective, "__dict__", {})
    return [array for _, array in islice(_arrays(attributes, "", MOST_DEPTH), MOST_ARRAYS)]


def _arrays(value: Any, name: str, depth: int) -> Iterator[tuple[str, np.ndarray[Any, Any]]]:
    """Yield the arrays in plain containers and dataclasses with their places."""
    if isinstance(value, np.ndarray):
        if not value.dtype.hasobject:
            yield name, value
        return
    if depth == 0:
        return
    items: Iterable[tuple[Any, Any]] = ()
    if type(value) is dict:
        items = value.items()
    elif type(value) in (list, tuple):
        items = enumerate(value)
    elif is_dataclass(value):
        items = getattr(value, "__dict__", {}).items()
    for key, item in islice(items, MOST_ARRAYS):
        yield from _arrays(item, f"{name}.{key}", depth - 1)
