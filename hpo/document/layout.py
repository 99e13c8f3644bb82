"""Two columns on wide pages: sections next to each other, and the blocks of a section in two columns."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, groupby

from hpo.document.charts import Bars
from hpo.document.document import Block, Bullets, Code, Document, Figure, Gallery, Paragraph, Section, Table

HALF = 656
"""Width in pixels of a column on the narrowest page that has two (1400 pixels)."""
_BOLD, _PLAIN, _BETWEEN = 8.8, 7.7, 14.0
"""Pixels of a character of headers and numbers, and of text, in a wide font; and between columns."""
_WRAPPED = 40
"""Characters of a last column of text, whose lines are wrapped."""
MOST_PANELS = 3
"""Largest number of charts of a figure in half the width."""
_LINE, _CHARACTERS = 26, 80
"""Height of a line of text in pixels, and the characters in it."""

Columns = tuple[Sequence[Block], Sequence[Block]]
"""Blocks of the left and of the right column; all that need the whole width are in the left one."""


def sections_of(document: Document) -> list[tuple[Section, bool]]:
    """Return each section and whether it stands next to another: two that follow each other and are one figure each."""
    found: list[tuple[Section, bool]] = []
    for section in document.sections:
        before = found[-1] if found else None
        pairs = before is not None and not before[1] and _is_single(before[0]) and _is_single(section)
        if pairs and before is not None:
            found[-1] = (before[0], True)
        found.append((section, pairs))
    return found


def columns_of(blocks: Sequence[Block]) -> list[Columns]:
    """Return the blocks in their order: runs of narrow ones, divided where both columns are about equally high."""
    found: list[Columns] = []
    for narrow, run in groupby(blocks, key=_is_narrow):
        members = list(run)
        place = _middle(members) if narrow else len(members)
        found.append((members[:place], members[place:]))
    return found


def _middle(blocks: Sequence[Block]) -> int:
    """Return the number of blocks of the left column with which the higher of the two columns is lowest.

    A list stays with the text that introduces it.
    """
    above = [0.0, *accumulate(map(_height, blocks))]
    places = [
        place
        for place in range(1, len(above))
        if place == len(blocks) or not isinstance(blocks[place], Bullets)
    ]
    return min(places, key=lambda place: max(above[place], above[-1] - above[place]))


def _is_single(section: Section) -> bool:
    match section.blocks:
        case [Figure() as figure]:
            return len(figure.panels) <= MOST_PANELS
    return False


def _is_narrow(block: Block) -> bool:
    """Whether half the width of a wide page is enough for a block."""
    match block:
        case Paragraph(kind=kind):
            return kind != "lead"
        case Bullets():
            return True
        case Figure():
            return len(block.panels) < MOST_PANELS
        case Table():
            return _table_width(block) <= HALF
        case Code() | Gallery():
            return False


def _table_width(table: Table) -> float:
    """Return roughly the width of a table in pixels."""
    width = 0.0
    for index, (header, *cells) in enumerate(zip(table.headers, *table.rows, strict=True)):
        longest = max(map(len, cells), default=0)
        is_text = header not in table.right
        if is_text and index == len(table.headers) - 1:
            longest = min(longest, _WRAPPED)
        width += max(_BOLD * len(header), (_PLAIN if is_text else _BOLD) * longest) + _BETWEEN
    return width


def _height(block: Block) -> float:
    """Return roughly the height of a narrow block in pixels."""
    match block:
        case Paragraph(text):
            return _LINE * (1 + len(text) // _CHARACTERS) + 20
        case Bullets(items):
            return sum(_LINE * (1 + len(item) // _CHARACTERS) for item in items) + 30
        case Table():
            return 31.0 * (1 + len(block.rows)) + (_LINE if block.caption else 0) + 28
        case Figure():
            bars = [34 * len(panel.names) for panel in block.panels if isinstance(panel, Bars)]
            return max([*bars, block.height]) + 100.0
    return 0.0
