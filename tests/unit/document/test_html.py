"""A document as a page and as Markdown: both say the same, and names of the user's own stay names."""

from __future__ import annotations

import base64
import io
from html.parser import HTMLParser

import numpy as np
from PIL import Image

from hpo.document.charts import Bars
from hpo.document.document import (
    Bullets,
    Code,
    Document,
    Figure,
    Gallery,
    Paragraph,
    Picture,
    Section,
    Table,
)
from hpo.document.files import document_files
from hpo.document.html import render_page
from hpo.document.markdown import render_markdown
from objectives.training.calibration import png

BAD = "<img src=x onerror=alert(1)> `a|b` *c* _d_ $e$"
THUMBNAIL = png(np.zeros((8, 8, 3), np.uint8))
DOCUMENT = Document(
    f"Title {BAD}",
    "subtitle",
    [
        Section(
            "What & where",
            [
                Paragraph("The answer.", "lead"),
                Bullets(["one", BAD]),
                Table(("name", "value"), [(BAD, "1")], frozenset({"value"}), "a caption"),
                Code("x = '```'", "python"),
                Code("long", summary="More"),
                Figure("bars", "a figure", [Bars("", ["a"], [1.0])]),
                Figure("lines", "a chart to point at", [Bars("", ["a"], [1.0])], page_only=True),
                Gallery("small", "images", [Picture(THUMBNAIL, "cat, 99 %")]),
            ],
        )
    ],
    status=["not finished"],
)


class _Outline(HTMLParser):
    """Which elements a page opens and closes."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.images: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "img":
            self.images.append(dict(attrs)["src"] or "")
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_is_well_formed() -> None:
    page = render_page(DOCUMENT)
    outline = _Outline()
    outline.feed(page)
    assert outline.open == []
    assert outline.images == [f"data:image/png;base64,{THUMBNAIL}"]
    assert 'href="#what-where"' in page
    assert 'id="what-where"' in page
    assert 'id="lines"' in page
    assert '<p class="status">not finished</p>' in page
    assert '<td class="number">1</td>' in page


def test_markdown() -> None:
    said = render_markdown(DOCUMENT, "pictures")
    assert "**The answer.**" in said
    assert "> not finished" in said
    assert "|---|---:|" in said
    assert "````python\nx = '```'\n````" in said
    assert "![a figure](pictures/bars.png)" in said
    assert "On the HTML page only: a chart to point at" in said
    assert "lines.png" not in said
    row = next(line for line in said.splitlines() if line.startswith("| \\<img"))
    # The bar inside a cell does not end it.
    assert row.replace("\\|", "").count("|") == 3
    assert "<img" not in said.replace("\\<img", "")


def test_files() -> None:
    found = document_files(DOCUMENT, "report")
    assert set(found) == {"report.html", "report.md", "pictures/bars.png", "pictures/small.png"}
    for name in ("bars", "small"):
        assert Image.open(io.BytesIO(found[f"pictures/{name}.png"])).size[0] > 100
    assert base64.b64decode(THUMBNAIL).startswith(b"\x89PNG")
