"""What a report says, as values; `page` makes it a web page, `markdown` a text with pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from hpo.document.charts import Panel


@dataclass(frozen=True)
class Paragraph:
    """A few sentences."""

    text: str
    kind: str = "plain"
    """`lead` for the answer itself, `note` for what limits it, else `plain`."""


@dataclass(frozen=True)
class Bullets:
    """Sentences that stand beside each other."""

    items: Sequence[str]


@dataclass(frozen=True)
class Table:
    """Cells of text."""

    headers: Sequence[str]
    rows: Sequence[Sequence[str]]
    right: frozenset[str] = frozenset()
    """Headers of columns of numbers."""
    caption: str = ""


@dataclass(frozen=True)
class Code:
    """Lines to be typed, or copied."""

    text: str
    language: str = ""
    summary: str = ""
    """What stands for it until it is asked for; empty: it is shown at once."""


@dataclass(frozen=True)
class Figure:
    """One or several charts side by side; also the name of a picture."""

    key: str
    """Name of the file without suffix, and of the place on the page: letters, digits and dashes."""
    caption: str
    panels: Sequence[Panel]
    height: int = 380
    """Of each panel on a page, in pixels."""
    width: int | None = None
    """Largest width of all panels together, in pixels; None: the whole page."""
    page_only: bool = False
    """Whether only the HTML page shows it: a chart that is read by pointing at its lines or points."""


@dataclass(frozen=True)
class Picture:
    """A small image and what is said of it."""

    png: str
    """In base64."""
    caption: str


@dataclass(frozen=True)
class Gallery:
    """Small images side by side."""

    key: str
    caption: str
    pictures: Sequence[Picture]


Block = Paragraph | Bullets | Table | Code | Figure | Gallery


@dataclass(frozen=True)
class Section:
    """Blocks under a heading."""

    title: str
    blocks: Sequence[Block]

    @property
    def anchor(self) -> str:
        """The heading as the end of a link."""
        words = "".join(letter if letter.isalnum() else " " for letter in self.title.lower()).split()
        return "-".join(words)


@dataclass(frozen=True)
class Document:
    """A whole report."""

    title: str
    subtitle: str
    sections: Sequence[Section]
    footer: str = ""
    status: Sequence[str] = field(default_factory=tuple)
    """What a reader must know first: that it is not finished, for instance."""

    def figures(self) -> list[Figure]:
        """All figures, in order."""
        return [block for section in self.sections for block in section.blocks if isinstance(block, Figure)]

    def galleries(self) -> list[Gallery]:
        """All galleries, in order."""
        return [block for section in self.sections for block in section.blocks if isinstance(block, Gallery)]
