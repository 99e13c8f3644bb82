"""A document as HTML and Markdown: same content, and names from the user are escaped."""

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
from objectives.tasks.calibration import png

BAD = "<img src=x onerror=alert(1)> `a|b` *c* _d_ $e$"
THUMBNAIL = png(np.zeros((8, 8, 3), np.uint8))
DOCUMENT = Document(
    f"Title {BAD}",
    "subtitle",
    [
        Section(
            "Results & limits",
            [
                Paragraph("The result.", "lead"),
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
    """Parser that checks that elements are closed in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.images: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "img":
            self.images.append(dict(attrs)["src"] or "")
        if tag not in ("meta", "img", "br", "wbr"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_page_is_well_formed() -> None:
    page = render_page(DOCUMENT)
    outline = _Outline()
    outline.feed(page)
    assert outline.open == []
    assert outline.images == [f"data:image/png;base64,{THUMBNAIL}"]
    assert 'href="#results-limits"' in page
    assert 'id="results-limits"' in page
    assert 'id="lines"' in page
    assert '<p class="status">not finished</p>' in page
    assert '<td class="number">1</td>' in page


def test_option_is_not_broken_across_lines() -> None:
    page = render_page(
        Document("t", "", [Section("s", [Paragraph("Crop (--image-size), <b>-- or --trials 5.")])])
    )
    assert (
        '(<span class="whole">--image-size</span>), &lt;b&gt;-- or <span class="whole">--trials</span> 5.'
        in page
    )


def test_cells_are_broken_between_words_and_not_within_numbers() -> None:
    table = Table(("learning_rate", "p"), [("1e-05 or 7.82e-06", "< 0.001")], right=("p",))
    page = render_page(Document("t", "", [Section("s", [table])]))
    assert "<th>learning_<wbr>rate</th>" in page
    assert '<td><span class="whole">1e-05</span> or <span class="whole">7.82e-06</span></td>' in page
    assert '<td class="number">&lt;\xa00.001</td>' in page


def test_caption_does_not_scroll_with_a_wide_table() -> None:
    table = Table(("a",), [("1",)], caption="The rows.")
    page = render_page(Document("t", "", [Section("s", [table])]))
    assert page.index("The rows.") < page.index('<div class="wide">')


def test_markdown_has_the_same_content() -> None:
    text = render_markdown(DOCUMENT, "pictures")
    assert "**The result.**" in text
    assert "> not finished" in text
    assert "|---|---:|" in text
    assert "````python\nx = '```'\n````" in text
    assert "![a figure](pictures/bars.png)" in text
    assert "On the HTML page only: a chart to point at" in text
    assert "lines.png" not in text
    row = next(line for line in text.splitlines() if line.startswith("| \\<img"))
    # A bar inside a cell does not end the cell.
    assert row.replace("\\|", "").count("|") == 3
    assert "<img" not in text.replace("\\<img", "")


def test_document_files_include_pictures() -> None:
    found = document_files(DOCUMENT, "report")
    assert set(found) == {"report.html", "report.md", "pictures/bars.png", "pictures/small.png"}
    for name in ("bars", "small"):
        assert Image.open(io.BytesIO(found[f"pictures/{name}.png"])).size[0] > 100
    assert base64.b64decode(THUMBNAIL).startswith(b"\x89PNG")
