"""A document as Markdown for code hosts, with its figures as PNG files next to it."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from functools import partial

from hpo.document.document import Block, Bullets, Code, Document, Figure, Gallery, Paragraph, Section, Table
from hpo.document.parts import attempt
from hpo.formatting import printable

_SPECIAL = re.compile(r"([\\`*_\[\]<>#|~$])")


def render_markdown(document: Document, pictures: str) -> str:
    """Return the text, which refers to figures as `<key>.png` in the folder `pictures`."""
    parts = [f"# {_escape(document.title)}", _escape(document.subtitle)]
    parts += [f"> {_escape(line)}" for line in document.status]
    for section in document.sections:
        parts.append(_section(section, pictures))
    if document.footer:
        parts.append(f"---\n\n{_escape(document.footer)}")
    return printable("\n\n".join(parts) + "\n")


def _section(section: Section, pictures: str) -> str:
    name = f"A part of section {section.title}"
    blocks = [attempt(name, partial(_block, block, pictures), _escape) for block in section.blocks]
    return "\n\n".join([f"## {_escape(section.title)}", *blocks])


def _block(block: Block, pictures: str) -> str:
    match block:
        case Paragraph(text, kind):
            return f"**{_escape(text)}**" if kind == "lead" else _escape(text)
        case Bullets(items):
            return "\n".join(f"- {_escape(item)}" for item in items)
        case Code(text, language, summary):
            # The fence must be longer than any run of backquotes inside.
            fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", text)), default=0))
            code = f"{fence}{language}\n{text.rstrip()}\n{fence}"
            if not summary:
                return code
            return f"<details><summary>{html.escape(summary)}</summary>\n\n{code}\n\n</details>"
        case Table():
            return _table(block)
        case Figure(page_only=True):
            return f"On the HTML page only: {_escape(block.caption)}"
        case Figure() | Gallery():
            caption = _escape(block.caption)
            return f"![{caption}]({pictures}/{block.key}.png)\n\n{caption}"


def _table(table: Table) -> str:
    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(_escape(cell) for cell in cells) + " |"

    rule = "|" + "|".join("---:" if header in table.right else "---" for header in table.headers) + "|"
    rows = [line(table.headers), rule, *(line(row) for row in table.rows)]
    caption = [f"{_escape(table.caption)}\n"] if table.caption else []
    return "\n".join([*caption, *rows])


def _escape(text: str) -> str:
    """Escape Markdown and HTML, and join lines."""
    return _SPECIAL.sub(r"\\\1", " ".join(text.split()))
