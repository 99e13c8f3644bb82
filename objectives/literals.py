"""Texts that are literals of JSON or Python: numbers, constants, quoted strings, lists, tuples and dictionaries."""

from __future__ import annotations

import ast
import functools
import json
import warnings
from collections.abc import Sequence
from typing import Any

_LONGEST = 10_000
"""Most characters of a text that is read as a literal."""
FOLDED = {"none": None, "null": None, "true": True, "false": False}
"""Constants as spreadsheets and other languages write them."""


@functools.lru_cache(maxsize=10_000)
def is_literal(text: str) -> bool:
    """Return whether a text is empty, or read as another value than the string itself."""
    return not text or text != text.strip() or text.casefold() in FOLDED or bool(literals(text))


def read_literal(text: str) -> Any:
    """Return the value that a text is the literal of, else the text; a whole number is an int, as 1e3."""
    value = next(iter(literals(text)), text)
    return int(value) if isinstance(value, float) and value.is_integer() else value


def literals(text: str) -> Sequence[Any]:
    """Return the value that a text is the literal of in JSON or Python, if any; no bare tuples."""
    text = text.strip()
    if len(text) > _LONGEST:
        return ()
    for parse in (json.loads, _python, float):
        try:
            value = parse(text)
        # Of deep nesting too.
        except (ValueError, SyntaxError, RecursionError, MemoryError, TypeError):
            continue
        if not isinstance(value, tuple) or text.startswith("("):
            return (value,)
    return ()


def _python(text: str) -> Any:
    with warnings.catch_warnings():
        # Of unknown escapes.
        warnings.simplefilter("ignore")
        return ast.literal_eval(text)
