"""The call of a data function: in this process, unless the template has it called in a process of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from objectives.data.returned.reading import Read, read
from objectives.data.returned.seeding import seeded
from objectives.data.returned.store import MemoryStore

Caller = Callable[[Callable[[], Any]], Read]
"""Function that returns the data set of a data function as arrays."""

_callers: list[Caller] = []


def call(function: Callable[[], Any], seed: int = 0) -> Read:
    """Return the data set of a data function as arrays; random numbers begin with `seed`.

    Raises:
        DataDamagedError: it returns something else than data.
        HpoError: its process ended, or its arrays cannot be handed over.
    """
    if _callers:
        return _callers[-1](function)
    with seeded(seed):
        return read(function, MemoryStore(), lambda *_: None)


@contextmanager
def called_by(caller: Caller) -> Iterator[None]:
    """Let `caller` call data functions within this block."""
    _callers.append(caller)
    try:
        yield
    finally:
        _callers.pop()
