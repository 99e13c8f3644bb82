"""Code as the cells of a notebook run it: in a main module without a file."""

from __future__ import annotations

import linecache
from itertools import count
from typing import Any

_numbers = count()
_latest: dict[str, Any] = {}


def run(text: str) -> dict[str, Any]:
    """Run a cell in an empty namespace and return it."""
    global _latest
    file = f"<cell {next(_numbers)}>"
    linecache.cache[file] = len(text), None, text.splitlines(keepends=True), file
    _latest = {"__name__": "__main__"}
    exec(compile(text, file, "exec"), _latest)
    return _latest


def update(names: dict[str, Any]) -> None:
    """Set names of the last cell's namespace."""
    _latest.update(names)
