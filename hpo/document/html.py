"""A document as one self-contained HTML file, for light and dark themes and all screen widths."""

from __future__ import annotations

import base64
import gzip
import html
import re
from collections.abc import Sequence
from functools import partial
from importlib import resources

from hpo.document.charts import Panel
from hpo.document.document import Block, Bullets, Code, Document, Figure, Gallery, Paragraph, Section, Table
from hpo.document.layout import columns_of, sections_of
from hpo.document.parts import attempt
from hpo.document.plotly_charts import figure_json, script_json
from hpo.formatting import printable

PLOTLY = "plotly-cartesian.min.js"
"""The bundle of plotly.js with charts over two axes; `page/README.md` has its source."""
# The page is self-contained, so the browser may refuse all external resources.
_POLICY = (
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline';"
    " base-uri 'none'; form-action 'none'"
)


_LONG = 20
"""Characters of a first cell that need several words a line on a narrow screen."""
_SIGN = re.compile(r"([±<>≤≥]) (?=[\d.])")
"""A sign before its number."""
_POWER = re.compile(r"\b[\d.]+e-\d+\b")
_OPTION = re.compile(r"--[a-z][a-z-]*[a-z]")


def escape(text: str) -> str:
    """Escape HTML, and replace control characters."""
    return html.escape(printable(text))


def prose(text: str) -> str:
    """Return escaped text whose names of options are not broken across lines."""
    return _OPTION.sub(r'<span class="whole">\g<0></span>', escape(text))


def render_page(document: Document) -> str:
    """Return the text of the HTML file."""
    charts: list[str] = []
    body = "\n".join(_section(section, charts, half) for section, half in sections_of(document))
    script = _script(charts) if charts else ""
    contents = "".join(
        f'<a href="#{section.anchor}">{escape(section.title)}</a>' for section in document.sections
    )
    status = "".join(f'<p class="status">{prose(line)}</p>' for line in document.status)
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


def _script(charts: Sequence[str]) -> str:
    """Return Plotly and the charts, packed, and the script that unpacks and draws them."""
    packed = {
        "plotly": _part(f"{PLOTLY}.gz"),
        "charts": gzip.compress(f"[{','.join(charts)}]".encode(errors="backslashreplace"), 6, mtime=0),
    }
    parts = [
        f'<script type="text/plain" id="{name}">{base64.b64encode(content).decode()}</script>'
        for name, content in packed.items()
    ]
    return "\n".join([*parts, f"<script>{_part('draw.js').decode()}</script>"])


def _part(name: str) -> bytes:
    """Return a file of the folder `page`."""
    return resources.files("hpo.document").joinpath("page", name).read_bytes()


def _section(section: Section, charts: list[str], half: bool) -> str:
    title = f"A part of section {section.title}"

    def column(blocks: Sequence[Block]) -> str:
        return "\n".join(attempt(title, partial(_block, block, charts), _left_out) for block in blocks)

    parts = [
        f'<div class="columns"><div>\n{column(left)}\n</div><div>\n{column(right)}\n</div></div>'
        if right and not half
        else column([*left, *right])
        for left, right in columns_of(section.blocks)
    ]
    content = "\n".join(parts)
    width = ' class="half"' if half else ""
    return f'<section id="{section.anchor}"{width}>\n<h2>{escape(section.title)}</h2>\n{content}\n</section>'


def _left_out(line: str) -> str:
    return f'<p class="note">{escape(line)}</p>'


def _block(block: Block, charts: list[str]) -> str:
    match block:
        case Paragraph(text, kind):
            return f'<p class="{escape(kind)}">{prose(text)}</p>'
        case Bullets(items):
            return "<ul>" + "".join(f"<li>{prose(item)}</li>" for item in items) + "</ul>"
        case Code(text, _, summary):
            code = f"<pre><code>{escape(text)}</code></pre>"
            return f"<details><summary>{escape(summary)}</summary>{code}</details>" if summary else code
        case Table():
            return _table(block)
        case Figure():
            return _figure(block, charts)
        case Gallery():
            return _gallery(block)


def _table(table: Table) -> str:
    def row(tag: str, cells: Sequence[str]) -> str:
        return "".join(
            f'<{tag} class="number">{_cell(cell)}</{tag}>'
            if header in table.right
            else f"<{tag}>{_cell(cell)}</{tag}>"
            for header, cell in zip(table.headers, cells, strict=True)
        )

    # Above the table, because it would scroll with a table that is wider than the screen.
    caption = f'<p class="caption">{prose(table.caption)}</p>' if table.caption else ""
    is_long = max((len(cells[0]) for cells in table.rows), default=0) > _LONG
    long = ' class="long"' if is_long else ""
    body = "".join(f"<tr>{row('td', cells)}</tr>" for cells in table.rows)
    return (
        f'{caption}<div class="wide"><table{long}><thead><tr>{row("th", table.headers)}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _cell(text: str) -> str:
    """Return escaped text that a narrow screen breaks between words and after underscores, not within numbers."""
    whole = _POWER.sub(r'<span class="whole">\g<0></span>', escape(_SIGN.sub("\\1\xa0", text)))
    return whole.replace("_", "_<wbr>")


def _figure(figure: Figure, charts: list[str]) -> str:
    panels = [
        attempt(f"A chart of {figure.key}", partial(_panel, panel, figure, charts), _left_out)
        for panel in figure.panels
    ]
    many = " many" if len(figure.panels) > 1 else ""
    width = f' style="max-width:{figure.width}px"' if figure.width is not None else ""
    return (
        f'<figure id="{escape(figure.key)}"><div class="panels{many}"{width}>{"".join(panels)}</div>'
        f"<figcaption>{prose(figure.caption)}</figcaption>"
        "<noscript><p>Charts need JavaScript; the Markdown file next to this page has pictures of them.</p></noscript>"
        "</figure>"
    )


def _panel(panel: Panel, figure: Figure, charts: list[str]) -> str:
    drawn = figure_json(panel, figure.height)
    charts.append(script_json(drawn))
    title = f"<h3>{escape(panel.title)}</h3>" if panel.title else ""
    label = escape(f"{panel.title}: {figure.caption}" if panel.title else figure.caption)
    space = f"min-height:{drawn['layout']['height']}px"
    return (
        f'<div class="cell">{title}<div class="panel" data-chart="{len(charts) - 1}" role="img" aria-label="{label}"'
        f' style="{space}"></div></div>'
    )


def _gallery(gallery: Gallery) -> str:
    pictures = "".join(
        f'<div><img src="data:image/png;base64,{escape(picture.png)}" alt="{escape(picture.caption)}">'
        f"<span>{escape(picture.caption)}</span></div>"
        for picture in gallery.pictures
    )
    return (
        f'<figure id="{escape(gallery.key)}"><div class="gallery">{pictures}</div>'
        f"<figcaption>{prose(gallery.caption)}</figcaption></figure>"
    )
