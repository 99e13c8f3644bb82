"""A report as plain values, which `html` and `markdown` render."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field

from hpo.document.charts import Panel


@dataclass(frozen=True)
class Paragraph:
    """A few sentences."""

    text: str
    kind: str = "plain"
    """`lead` for the main result, `note` for its limitations, else `plain`."""


@dataclass(frozen=True)
class Bullets:
    """A bulleted list of sentences."""

    items: Sequence[str]


@dataclass(frozen=True)
class Table:
    """A table of text cells."""

    headers: Sequence[str]
    rows: Sequence[Sequence[str]]
    right: frozenset[str] = frozenset()
    """Headers of right-aligned columns."""
    caption: str = ""

    @classmethod
    def of(cls, rows: Sequence[Mapping[str, str]], *, text: Collection[str] = (), caption: str = "") -> Table:
        """Return a table of cells by header; columns are right-aligned, except those in `text`."""
        headers = tuple(rows[0])
        return cls(
            headers, [tuple(row.values()) for row in rows], frozenset(headers).difference(text), caption
        )


@dataclass(frozen=True)
class Code:
    """Commands or code to copy."""

    text: str
    language: str = ""
    summary: str = ""
    """Title of the collapsed block; empty: the code is always visible."""


@dataclass(frozen=True)
class Figure:
    """One or several charts side by side, stored as one picture."""

    key: str
    """File name without suffix and anchor on the page: letters, digits and dashes."""
    caption: str
    panels: Sequence[Panel]
    _: KW_ONLY
    height: int = 380
    """Height of each panel on a page, in pixels."""
    width: int | None = None
    """Largest width of all panels together, in pixels; None: the whole page."""
    page_only: bool = False
    """Whether only the HTML page shows it: a chart that is read by pointing at its lines or points."""


@dataclass(frozen=True)
class Picture:
    """A small image with a caption."""

    png: str
    """PNG file in base64."""
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
        """Heading as the fragment of a link."""
        return "-".join("".join(one if one.isalnum() else " " for one in self.title.lower()).split())


@dataclass(frozen=True)
class Document:
    """A report: title, sections and status."""

    title: str
    subtitle: str
    sections: Sequence[Section]
    footer: str = ""
    status: Sequence[str] = field(default_factory=tuple)
    """Notices above the sections, for example that the study is unfinished."""

    def figures(self) -> list[Figure]:
        """Return all figures in order."""
        return [block for section in self.sections for block in section.blocks if isinstance(block, Figure)]

    def galleries(self) -> list[Gallery]:
        """Return all galleries in order."""
        return [block for section in self.sections for block in section.blocks if isinstance(block, Gallery)]
