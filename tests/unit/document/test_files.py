"""Files of documents hold any text that the database may hold."""

from __future__ import annotations

import json

import pytest

from hpo.document.files import csv_file, json_file
from hpo.formatting import printable


@pytest.mark.parametrize("odd", ["\ud800", "\x1b]0;title\x07", "\x9b2J", "\u202e"])
def test_text_that_a_terminal_obeys_is_replaced(odd: str) -> None:
    table, document = csv_file(["a"], [[f"x{odd}"]]), json_file({"a": f"x{odd}"})
    assert printable(table.decode() + document.decode()) == table.decode() + document.decode()
    assert json.loads(document) == {"a": f"x{odd}"}
