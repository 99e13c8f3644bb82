"""A document as one self-contained HTML file, for light and dark themes and all screen widths."""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence
from functools import partial
from importlib import resources
from itertools import count
from typing import TYPE_CHECKING

from hpo.document.charts import Panel
from hpo.document.document import Block, Bullets, Code, Document, Figure, Gallery, Paragraph, Section, Table
from hpo.document.layout import is_narrow, is_single, paired
from hpo.document.parts import attempt
from hpo.document.plotly_charts import figure_json, script_json
from hpo.formatting import printable

if TYPE_CHECKING:
    from collections.abc import Iterator

PLOTLY = "plotly-cartesian.min.js"
"""The bundle of plotly.js with charts over two axes; `page/README.md` has its source."""
# The page is self-contained, so the browser may refuse all external resources.
_POLICY = (
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline';"
    " base-uri 'none'; form-action 'none'"
)


def escape(text: str) -> str:
    """Escape HTML, and replace control characters."""
    return html.escape(printable(text))


def render_page(document: Document) -> str:
    """Return the text of the HTML file."""
    numbers = count()
    beside = paired(document.sections, is_single)
    body = "\n".join(
        _section(section, numbers, half) for section, half in zip(document.sections, beside, strict=True)
    )
    has_figures = bool(document.figures())
    script = _script() if has_figures else ""
    contents = "".join(
        f'<a href="#{section.anchor}">{escape(section.title)}</a>' for section in document.sections
    )
    status = "".join(f'<p class="status">{escape(line)}</p>' for line in document.status)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<title>{escape(document.title)}</title>
<style>{_part("style.css").decode()}</style>
</head>
<body>
<header>
<h1>{escape(document.title)}</h1>
<p class="subtitle">{escape(document.subtitle)}</p>
{status}
<nav>{contents}</nav>
</header>
<main>
{body}
</main>
<footer><p>{escape(document.footer)}</p></footer>
{script}
</body>
</html>
"""


def _script() -> str:
    """Return Plotly, compressed, and the script that unpacks it and draws."""
    # Compressed, it is a third as large; every browser of 2023 or later can unpack it.
    packed = base64.b64encode(_part(f"{PLOTLY}.gz")).decode()
    return f'<script type="text/plain" id="plotly">{packed}</script>\n<script>{_part("draw.js").decode()}</script>'


def _part(name: str) -> bytes:
    """Return a file of the folder `page`."""
    return resources.files("hpo.document").joinpath("page", name).read_bytes()


def _section(section: Section, numbers: Iterator[int], half: bool) -> str:
    title = f"A part of section {section.title}"
    blocks = [attempt(title, partial(_block, block, numbers), _left_out) for block in section.blocks]
    # On wide pages, two blocks that need little width stand next to each other.
    beside = paired(section.blocks, is_narrow) if not half else [False] * len(blocks)
    content = "\n".join(
        f'<div class="half">{block}</div>' if one else block
        for block, one in zip(blocks, beside, strict=True)
    )
    width = ' class="half"' if half else ""
    return f'<section id="{section.anchor}"{width}>\n<h2>{escape(section.title)}</h2>\n{content}\n</section>'


def _left_out(line: str) -> str:
    return f'<p class="note">{escape(line)}</p>'


def _block(block: Block, numbers: Iterator[int]) -> str:
    match block:
        case Paragraph(text, kind):
            return f'<p class="{escape(kind)}">{escape(text)}</p>'
        case Bullets(items):
            return "<ul>" + "".join(f"<li>{escape(item)}</li>" for item in items) + "</ul>"
        case Code(text, _, summary):
            code = f"<pre><code>{escape(text)}</code></pre>"
            return f"<details><summary>{escape(summary)}</summary>{code}</details>" if summary else code
        case Table():
            return _table(block)
        case Figure():
            return _figure(block, numbers)
        case Gallery():
            return _gallery(block)


def _table(table: Table) -> str:
    def row(tag: str, cells: Sequence[str]) -> str:
        return "".join(
            f'<{tag} class="number">{escape(cell)}</{tag}>'
            if header in table.right
            else f"<{tag}>{escape(cell)}</{tag}>"
            for header, cell in zip(table.headers, cells, strict=True)
        )

    caption = f"<caption>{escape(table.caption)}</caption>" if table.caption else ""
    body = "".join(f"<tr>{row('td', cells)}</tr>" for cells in table.rows)
    return (
        f'<div class="wide"><table>{caption}<thead><tr>{row("th", table.headers)}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _figure(figure: Figure, numbers: Iterator[int]) -> str:
    panels = [
        attempt(f"A chart of {figure.key}", partial(_panel, panel, figure, numbers), _left_out)
        for panel in figure.panels
    ]
    many = " many" if len(figure.panels) > 1 else ""
    width = f' style="max-width:{figure.width}px"' if figure.width is not None else ""
    return (
        f'<figure id="{escape(figure.key)}"><div class="panels{many}"{width}>{"".join(panels)}</div>'
        f"<figcaption>{escape(figure.caption)}</figcaption>"
        "<noscript><p>Charts need JavaScript; the Markdown file next to this page has pictures of them.</p></noscript>"
        "</figure>"
    )


def _panel(panel: Panel, figure: Figure, numbers: Iterator[int]) -> str:
    name, drawn = f"data-{next(numbers)}", figure_json(panel, figure.height)
    content = script_json(drawn)
    title = f"<h3>{escape(panel.title)}</h3>" if panel.title else ""
    label = escape(f"{panel.title}: {figure.caption}" if panel.title else figure.caption)
    space = f"min-height:{drawn['layout']['height']}px"
    return (
        f'<div class="cell">{title}<div class="panel" data-figure="{name}" role="img" aria-label="{label}"'
        f' style="{space}"></div></div>'
        f'<script type="application/json" id="{name}">{content}</script>'
    )


def _gallery(gallery: Gallery) -> str:
    pictures = "".join(
        f'<div><img src="data:image/png;base64,{escape(picture.png)}" alt="{escape(picture.caption)}">'
        f"<span>{escape(picture.caption)}</span></div>"
        for picture in gallery.pictures
    )
    return (
        f'<figure id="{escape(gallery.key)}"><div class="gallery">{pictures}</div>'
        f"<figcaption>{escape(gallery.caption)}</figcaption></figure>"
    )
