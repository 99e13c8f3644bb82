"""The text of exceptions that user code raises."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from hpo.trainer.ends.failures import one_line, traceback_of


class Wordless(Exception):
    def __str__(self) -> str:
        raise KeyboardInterrupt


class Numbered(Exception):
    def __str__(self) -> Any:
        return 5


class Loud(str):
    __slots__ = ()

    def __getitem__(self, _: Any) -> Any:
        raise RuntimeError


class Subclassed(Exception):
    def __str__(self) -> str:
        return Loud("text")


def caused(error: BaseException) -> BaseException:
    error.__cause__ = Wordless()
    return error


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("first\nsecond\t third"), "ValueError: first second third"),
        (ValueError("NUL \0, a byte \udcff"), "ValueError: NUL \\x00, a byte \\udcff"),
        (ValueError("a" * 50_000_000), f"ValueError: {'a' * 400}"),
        (KeyboardInterrupt(), "KeyboardInterrupt"),
        (asyncio.CancelledError("late"), "CancelledError: late"),
        (SystemExit(0), "SystemExit: 0"),
        (ExceptionGroup("two", [ValueError("a"), TypeError("b")]), "ExceptionGroup: two (2 sub-exceptions)"),
        (Wordless(), "Wordless: its text cannot be shown: __str__ raised KeyboardInterrupt"),
        (Numbered(), "Numbered: its text cannot be shown: __str__ raised TypeError"),
        (Subclassed(), "Subclassed: text"),
        (type("odd\n", (Exception,), {})("text"), "odd: text"),
        (caused(ValueError("caused")), "ValueError: caused"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_exception_has_one_line_and_a_bounded_traceback(error: BaseException, line: str) -> None:
    assert one_line(error) == line
    shown = traceback_of(error)
    assert type(error).__name__ in shown
    assert len(shown) < 40_000
    shown.encode()


def test_traceback_keeps_where_a_deep_recursion_began_and_ended() -> None:
    def deep(call: Callable[[], Any]) -> Any:
        return deep(call)

    with pytest.raises(RecursionError) as raised:
        deep(int)
    shown = traceback_of(raised.value)
    assert "test_traceback_keeps" in shown
    assert shown.rstrip().endswith("RecursionError: maximum recursion depth exceeded")
