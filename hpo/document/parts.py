"""Parts of a document: one that cannot be made is replaced by a line, and everything else is written.

Values of users' programs reach the limits of every library, and no chart is worth the result of a search.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TypeVar

from hpo.document.document import Block, Paragraph, Section

log = logging.getLogger(__name__)

T = TypeVar("T")
Part = Callable[[], Block | Sequence[Block] | None]

LEFT_OUT = "is left out"
"""Text of each line that replaces a part."""


def attempt(name: str, make: Callable[[], T], instead: Callable[[str], T]) -> T:
    """Return the result of `make` or, if it raises, that of `instead` for a line that names part and error."""
    try:
        return make()
    except Exception as exc:  # noqa: BLE001 - each part calls several libraries
        reason = f"{type(exc).__name__}: {exc}".partition("\n")[0][:200].removesuffix(": ")
        log.warning(f"{name} {LEFT_OUT} ({reason}): everything else is written; please report this error")
        return instead(f"{name} {LEFT_OUT} ({reason}).")


def section(title: str, *parts: Part) -> list[Section]:
    """Return a section with the blocks of its parts, or nothing if they have none."""

    def blocks_of(part: Part) -> list[Block]:
        made = part()
        return [] if made is None else list(made) if isinstance(made, Sequence) else [made]

    def line(text: str) -> list[Block]:
        return [Paragraph(text, "note")]

    name = f"A part of section {title}"
    blocks = [block for part in parts for block in attempt(name, lambda part=part: blocks_of(part), line)]  # type: ignore[misc]
    return [Section(title, blocks)] if blocks else []
