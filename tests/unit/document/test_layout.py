"""Sections and blocks in two columns on wide pages."""

from __future__ import annotations

import pytest

from hpo.document.charts import Bars
from hpo.document.document import Block, Bullets, Code, Document, Figure, Paragraph, Section, Table
from hpo.document.layout import columns_of, sections_of

CHART = Figure("f", "caption", [Bars("", ["a"], [1.0])])
WIDE = Figure("w", "caption", [Bars("", ["a"], [1.0])] * 4)
TEXT = Paragraph("A sentence.")
TABLE = Table(("a", "b"), [("1", "2")] * 10)

BROAD = Table(("a", "b"), [("x" * 99, "1")], frozenset({"b"}))

# The test figures of a report: 773 pixels wide, next to other blocks they would be cut off.
HEADS = ("figure", "mean", "standard deviation", "95 % over 3 seeds", "95 % over 150 test examples")
FIGURES = Table(
    HEADS, [("test RMSE", "8551.4049", "1114.5271", "5782.7661 to 11320", "-")], frozenset(HEADS[1:])
)


@pytest.mark.parametrize(
    ("blocks", "expected"),
    [
        ([], []),
        ([TEXT], [([TEXT], [])]),
        ([TEXT, TEXT], [([TEXT], [TEXT])]),
        ([Paragraph("A result.", "lead"), TEXT], [([Paragraph("A result.", "lead")], []), ([TEXT], [])]),
        ([TEXT, TEXT, TABLE], [([TEXT, TEXT], [TABLE])]),
        ([TABLE, CHART, WIDE, CHART], [([TABLE], [CHART]), ([WIDE], []), ([CHART], [])]),
        ([Code("x"), Bullets(["a"])], [([Code("x")], []), ([Bullets(["a"])], [])]),
        ([BROAD, TEXT], [([BROAD], []), ([TEXT], [])]),
        ([FIGURES, TEXT], [([FIGURES], []), ([TEXT], [])]),
        ([TEXT, TABLE, TEXT, Bullets(["a"])], [([TEXT, TABLE], [TEXT, Bullets(["a"])])]),
        ([TEXT, Bullets(["a"])], [([TEXT, Bullets(["a"])], [])]),
        ([Table(("a", "b"), [("x", "y" * 200)]), TEXT], [([Table(("a", "b"), [("x", "y" * 200)])], [TEXT])]),
    ],
)
def test_blocks_keep_their_order_in_two_columns(
    blocks: list[Block], expected: list[tuple[list[Block], list[Block]]]
) -> None:
    assert columns_of(blocks) == expected


def test_sections_of_one_figure_stand_next_to_each_other() -> None:
    blocks = [[CHART], [CHART], [CHART], [TEXT], [CHART], [WIDE]]
    document = Document("t", "", [Section(str(index), one) for index, one in enumerate(blocks)])
    assert [half for _, half in sections_of(document)] == [True, True, False, False, False, False]
