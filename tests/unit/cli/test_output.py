"""Tables, for people and for grep."""

from __future__ import annotations

import pytest

from hpo.cli import output

HEADERS, ROWS = ("name", "value"), [("a", "1.5"), ("longer [b]", "")]


def test_plain_columns_can_be_counted(capsys: pytest.CaptureFixture[str]) -> None:
    output.echo_table(HEADERS, ROWS, right=["value"])
    assert capsys.readouterr().out == "name        value\na             1.5\nlonger [b]      -\n"


def test_a_terminal_gets_a_table(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output, "on_terminal", lambda: True)
    output.echo_table(HEADERS, ROWS, right=["value"], title="Things")
    said = capsys.readouterr().out
    assert "Things" in said
    # What stands in brackets is text, not markup.
    assert "longer [b]" in said
    assert "─" in said


def test_csv_is_exact(capsys: pytest.CaptureFixture[str]) -> None:
    output.echo_csv(["a", "b"], [(0.1 + 0.2, None), ("x,y", True)])
    assert capsys.readouterr().out == 'a,b\n0.30000000000000004,\n"x,y",True\n'
