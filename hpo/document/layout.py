"""Blocks and sections that stand next to each other on wide pages."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from hpo.document.document import Block, Figure, Section, Table

MOST_COLUMNS = 6
"""Largest number of columns of a table in half the width of a wide page."""
MOST_CHARACTERS = 70
"""Longest row of such a table."""
MOST_PANELS = 3
"""Largest number of charts of a figure in half the width."""

T = TypeVar("T")


def paired(items: Sequence[T], fits: Callable[[T], bool]) -> list[bool]:
    """Return for each item whether it stands next to its neighbour: two that fit and follow each other."""
    found = [False] * len(items)
    index = 0
    while index + 1 < len(items):
        if fits(items[index]) and fits(items[index + 1]):
            found[index] = found[index + 1] = True
            index += 1
        index += 1
    return found


def is_narrow(block: Block) -> bool:
    """Whether half the width of a wide page is enough for a block."""
    match block:
        case Figure():
            return len(block.panels) < MOST_PANELS
        case Table():
            longest = max((sum(map(len, row)) for row in block.rows), default=0)
            return len(block.headers) <= MOST_COLUMNS and longest <= MOST_CHARACTERS
    return False


def is_single(section: Section) -> bool:
    """Whether a section is one figure that half the width is enough for."""
    match section.blocks:
        case [Figure() as figure]:
            return len(figure.panels) <= MOST_PANELS
    return False
