"""The generated documentation of the commands."""

from __future__ import annotations

from hpo.cli.docs import PATH, render


def test_the_page_is_not_stale() -> None:
    assert PATH.read_text(encoding="utf-8") == render(), "run `python -m hpo.cli.docs`"


def test_the_page_holds_nested_commands() -> None:
    assert "#### `hpo data fetch`" in render()
