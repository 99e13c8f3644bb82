"""Files of documents hold any text that the database may hold."""

from __future__ import annotations

import json

from hpo.document.files import csv_file, json_file


def test_half_a_character_is_escaped() -> None:
    assert csv_file(["a"], [["x\ud800"]]) == b"a\nx\\ud800\n"
    assert json.loads(json_file({"a": "x\ud800"})) == {"a": "x\ud800"}
