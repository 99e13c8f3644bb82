"""Tables for terminals and for grep."""

from __future__ import annotations

import pytest

from hpo.cli import output

HEADERS, ROWS = ("name", "value"), [("a", "1.5"), ("longer [b]", "")]


def test_plain_table_marks_empty_cells(capsys: pytest.CaptureFixture[str]) -> None:
    output.echo_table(HEADERS, ROWS, right=["value"])
    assert capsys.readouterr().out == "name        value\na             1.5\nlonger [b]      -\n"


def test_terminal_shows_a_table(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output, "on_terminal", lambda: True)
    output.echo_table(HEADERS, ROWS, right=["value"])
    printed = capsys.readouterr().out
    # Brackets are text, not markup.
    assert "longer [b]" in printed
    assert "─" in printed


def test_csv_has_full_precision(capsys: pytest.CaptureFixture[str]) -> None:
    output.echo_csv(["a", "b"], [(0.1 + 0.2, None), ("x,y", True)])
    assert capsys.readouterr().out == 'a,b\n0.30000000000000004,\n"x,y",True\n'
