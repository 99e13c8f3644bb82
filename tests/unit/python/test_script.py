"""Objectives of a script that is run: its file stands for them where an import of it defines the same."""

from __future__ import annotations

import linecache
import sys
from pathlib import Path
from types import ModuleType

import pytest

from hpo.python.definition import reference_of

OBJECTIVE = """
import collections
VALUE = 1
OPTIONS = {}
CACHE = None
def cached():
    global CACHE
    CACHE = CACHE or [1]
    return CACHE
def objective(trial):
    return VALUE, OPTIONS, collections.Counter, cached()
def main():
    VALUE = 3
def set_value():
    global VALUE
    VALUE = 2
def set_option():
    OPTIONS["a"] = 1
"""


def run(path: Path, block: str, monkeypatch: pytest.MonkeyPatch) -> str | None:
    """Run a script with a main block, and return the reference of its objective."""
    lines = "".join(f"    {line}\n" for line in block.splitlines())
    text = f'{OBJECTIVE}\nif __name__ == "__main__":\n{lines}'
    path.write_text(text)
    linecache.checkcache(str(path))
    main = ModuleType("__main__")
    main.__file__ = str(path)
    monkeypatch.setitem(sys.modules, "__main__", main)
    exec(compile(text, str(path), "exec"), vars(main))
    return reference_of(vars(main)["objective"])


@pytest.mark.parametrize(
    ("block", "by_file"),
    [
        ("pass", True),
        ("main()", True),
        ("cached()", False),
        ("unused = 3\ncollections.OrderedDict()", True),
        ("VALUE = 1", True),
        ("VALUE = 2", False),
        ("if True:\n    VALUE = VALUE + 1", False),
        ("for VALUE in range(3): pass", False),
        ("OPTIONS['a'] = 1", False),
        ("OPTIONS.update(a=1)", False),
        ("set_value()", False),
        ("set_option()", False),
        ("objective.scale = 2", False),
        ("def objective(trial):\n    return 1", False),
        ("def cached():\n    return 1", False),
    ],
)
def test_file_stands_for_an_objective_unless_the_run_sets_what_it_uses(
    block: str, by_file: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "script.py"
    assert run(path, block, monkeypatch) == (f"{path}:objective" if by_file else None)
