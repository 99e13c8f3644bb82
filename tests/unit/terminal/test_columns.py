"""Lines of a terminal break between words, and within a command only if it is longer than a line."""

from __future__ import annotations

import io
import logging

import pytest

from hpo.terminal.columns import columns_of, display_width, fitted, wrapped
from hpo.terminal.log import LogHandler

NEXT = "next: hpo report --study demo, hpo retrain --study demo --top 3, or hpo dashboard"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("columns", range(20, 90))
def test_no_word_is_broken_at_any_width(columns: int) -> None:
    lines = wrapped(NEXT, columns).split("\n")
    assert " ".join(line.strip() for line in lines) == NEXT
    assert max(map(display_width, lines)) <= columns
    assert {word for line in lines for word in line.split()} == set(NEXT.split())


def test_command_is_kept_whole_where_it_fits() -> None:
    assert wrapped(NEXT, 40).split("\n") == [
        "next: hpo report --study demo,",
        "  hpo retrain --study demo --top 3, or",
        "  hpo dashboard",
    ]
    assert wrapped("continue it (`hpo ls` lists all)", 20).split("\n") == [
        "continue it",
        "  (`hpo ls` lists",
        "  all)",
    ]


def test_path_longer_than_a_line_has_a_line_of_its_own() -> None:
    path = "/home/someone" * 5
    assert wrapped(f"wrote {path}, and more", 40).split("\n") == ["wrote", f"  {path},", "  and more"]


def test_lines_keep_their_indentation_and_wide_characters_count_twice() -> None:
    assert wrapped("a\n  tried first: one two three", 20) == "a\n  tried first: one\n    two three"
    assert wrapped("鳥鳥鳥鳥鳥 鳥鳥鳥鳥鳥 鳥鳥", 21).split("\n") == ["鳥鳥鳥鳥鳥 鳥鳥鳥鳥鳥", "  鳥鳥"]
    assert display_width("\x1b[32mok\x1b[0m") == 2


def test_only_text_on_a_terminal_is_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    assert columns_of(io.StringIO()) is None
    assert fitted(NEXT, io.StringIO()) == NEXT
    assert fitted(NEXT, Terminal()) == wrapped(NEXT, 40)
    monkeypatch.delenv("COLUMNS")
    assert columns_of(Terminal()) == 80


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_log_lines_are_broken_unless_they_are_json(monkeypatch: pytest.MonkeyPatch, log_format) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    terminal = Terminal()
    handler = LogHandler(terminal)
    handler.log_format = log_format
    handler.emit(logging.LogRecord("hpo", logging.INFO, "", 0, NEXT, None, None))
    lines = terminal.getvalue().splitlines()
    assert (len(lines) == 1) == (log_format == "json")
