"""A document as one self-contained HTML file, for light and dark themes and all screen widths."""

from __future__ import annotations

import html
from collections.abc import Sequence
from functools import partial
from itertools import count
from typing import TYPE_CHECKING

from hpo.document.charts import Panel
from hpo.document.document import Block, Bullets, Code, Document, Figure, Gallery, Paragraph, Section, Table
from hpo.document.parts import attempt
from hpo.document.plotly_charts import figure_json, script_json
from hpo.formatting import printable

if TYPE_CHECKING:
    from collections.abc import Iterator

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
    body = "\n".join(_section(section, numbers) for section in document.sections)
    has_figures = bool(document.figures())
    script = f"<script>{_plotly()}</script>\n<script>{_DRAW}</script>" if has_figures else ""
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
<style>{_STYLE}</style>
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


def _section(section: Section, numbers: Iterator[int]) -> str:
    blocks = "\n".join(
        attempt(f"A part of section {section.title}", partial(_block, block, numbers), _left_out)
        for block in section.blocks
    )
    return f'<section id="{section.anchor}">\n<h2>{escape(section.title)}</h2>\n{blocks}\n</section>'


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
        attempt(f"A chart of {figure.key}", partial(_panel, panel, figure.height, numbers), _left_out)
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


def _panel(panel: Panel, height: int, numbers: Iterator[int]) -> str:
    name, drawn = f"data-{next(numbers)}", figure_json(panel, height)
    content = script_json(drawn)
    title = f"<h3>{escape(panel.title)}</h3>" if panel.title else ""
    space = f"min-height:{drawn['layout']['height']}px"
    return (
        f'<div class="cell">{title}<div class="panel" data-figure="{name}" style="{space}"></div></div>'
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


def _plotly() -> str:
    from plotly.offline import get_plotlyjs

    source: str = get_plotlyjs()
    return source.replace("</script", "<\\/script")


_STYLE = """
:root { --page: #ffffff; --text: #1f2328; --soft: #59636e; --line: #d5dae0; --panel: #f6f8fa;
  --accent: #1f6fb2; --warn: #fff4d6; --warn-line: #e0b94a; }
@media (prefers-color-scheme: dark) { :root { --page: #14171c; --text: #e6e8eb; --soft: #9aa4af;
  --line: #343b45; --panel: #1c2128; --accent: #6db3f2; --warn: #3a3117; --warn-line: #8f7629; } }
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; scroll-behavior: smooth; }
body { margin: 0 auto; padding: 0 20px 48px; max-width: 1100px; background: var(--page); color: var(--text);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", Arial, sans-serif; }
h1 { font-size: 1.7rem; line-height: 1.25; margin: 28px 0 4px; overflow-wrap: anywhere; }
h2 { font-size: 1.25rem; margin: 44px 0 12px; padding-bottom: 6px; border-bottom: 1px solid var(--line); }
p { margin: 10px 0; max-width: 76ch; overflow-wrap: anywhere; }
.subtitle, figcaption, caption, .note, footer { color: var(--soft); }
.note, figcaption, caption, footer { font-size: 0.9rem; }
.lead { font-size: 1.25rem; line-height: 1.45; }
.status { background: var(--warn); border: 1px solid var(--warn-line); border-radius: 6px; padding: 8px 12px; }
nav { display: flex; flex-wrap: wrap; gap: 4px 18px; margin: 16px 0; }
a { color: var(--accent); text-decoration: none; }
a:hover { text-decoration: underline; }
.wide { overflow-x: auto; margin: 14px 0; }
table { border-collapse: collapse; font-size: 0.92rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; padding-bottom: 6px; }
th, td { padding: 5px 14px 5px 0; text-align: left; border-bottom: 1px solid var(--line); vertical-align: top; }
th { color: var(--soft); font-weight: 600; white-space: nowrap; }
td { white-space: nowrap; }
td.number, th.number { text-align: right; }
td:last-child:not(.number) { white-space: normal; min-width: 12ch; overflow-wrap: anywhere; }
pre { background: var(--panel); border: 1px solid var(--line); border-radius: 6px; padding: 12px 14px;
  overflow-x: auto; font-size: 0.88rem; line-height: 1.5; }
li { margin: 4px 0; max-width: 76ch; }
figure { margin: 18px 0 26px; }
.panels.many { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 330px), 1fr)); gap: 8px 20px; }
.cell, .panel { min-width: 0; }
h3 { font-size: 0.92rem; margin: 10px 0 0; }
summary { cursor: pointer; color: var(--accent); }
.gallery { display: grid; grid-template-columns: repeat(auto-fill, minmax(104px, 1fr)); gap: 14px; }
.gallery div { display: flex; flex-direction: column; gap: 4px; font-size: 0.78rem; line-height: 1.3;
  min-width: 0; overflow-wrap: anywhere; }
.gallery img { width: 84px; height: 84px; object-fit: contain; image-rendering: pixelated;
  background: var(--panel); border: 1px solid var(--line); }
@media (max-width: 600px) { body { padding: 0 14px 32px; } h1 { font-size: 1.4rem; } .lead { font-size: 1.1rem; }
  td:first-child:not(.number) { white-space: normal; } td:last-child:not(.number) { min-width: 20ch; } }
@media print { nav { display: none; } section { break-inside: avoid-page; } }
"""

_DRAW = """
(function () {
  var panels = Array.prototype.slice.call(document.querySelectorAll('[data-figure]'));
  var dark = window.matchMedia('(prefers-color-scheme: dark)');
  function colour(name) {
    return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  }
  function draw() {
    panels.forEach(function (panel) {
      var figure = JSON.parse(document.getElementById(panel.dataset.figure).textContent);
      var layout = figure.layout;
      layout.paper_bgcolor = 'rgba(0,0,0,0)';
      layout.plot_bgcolor = 'rgba(0,0,0,0)';
      layout.font = { color: colour('--text'), size: 12, family: getComputedStyle(document.body).fontFamily };
      layout.hoverlabel = { bgcolor: colour('--panel'), bordercolor: colour('--line'),
        font: { color: colour('--text') }, align: 'left' };
      figure.data.forEach(function (trace) {
        if (trace.type === 'heatmap') { trace.textfont = { color: colour('--text') }; }
      });
      Object.keys(layout).forEach(function (key) {
        if (/^[xy]axis/.test(key)) {
          layout[key].gridcolor = layout[key].gridcolor || colour('--line');
          layout[key].zerolinecolor = colour('--line');
          layout[key].linecolor = colour('--line');
        }
      });
      Plotly.react(panel, figure.data, layout,
        { responsive: true, displaylogo: false, displayModeBar: false, scrollZoom: false });
    });
  }
  draw();
  dark.addEventListener('change', draw);
})();
"""
