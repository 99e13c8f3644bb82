"""The generated documentation of the commands."""

from __future__ import annotations

from hpo.cli.docs import PATH, render


def test_page_is_up_to_date() -> None:
    assert PATH.read_text(encoding="utf-8") == render(), "run `python -m hpo.cli.docs`"


def test_page_includes_nested_commands() -> None:
    assert "#### `hpo data fetch`" in render()
