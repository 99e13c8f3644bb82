"""The digest of an objective's source: it changes with everything that is carried to the trials, and only then."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

from hpo.python.definition import define
from hpo.python.source import Source
from objectives import code
from tests.unit.python import notebook_code

WRAPPER = """
def doubled(f):
    @functools.wraps(f)
    def inner(*args):
        return f(*args) * 2
    return inner
"""
IMPORTS = "import collections, functools, re, types\nimport numpy as np\n"
USE = "def objective(trial):\n    return VALUE\n"


def text_of(cell: str) -> str:
    """Return the source of the objective that a cell defines."""
    return Source(define(notebook_code.run(IMPORTS + cell)["objective"]).objects).text


@pytest.mark.parametrize(
    ("cell", "before", "after"),
    [
        (f"VALUE = re.compile('a')\n{USE}", "'a'", "'b'"),
        (f"VALUE = memoryview(b'a')\n{USE}", "b'a'", "b'b'"),
        (f"VALUE = {{'a': 1}}.keys()\n{USE}", "'a'", "'b'"),
        (f"VALUE = types.MappingProxyType({{'a': 1}})\n{USE}", "1", "2"),
        (f"VALUE = collections.defaultdict(lambda: 1)\n{USE}", ": 1", ": 2"),
        (f"VALUE = np.ma.masked_array([1, 2], [0, 1])\n{USE}", "[0, 1]", "[1, 0]"),
        (f"VALUE = {{'f': lambda x: x * 2}}\n{USE}", "* 2", "* 3"),
        (f"class D(dict): pass\nVALUE = D()\nVALUE.x = 1\n{USE}", "x = 1", "x = 2"),
        (f"class D(int): pass\nVALUE = D()\nVALUE.x = 1\n{USE}", "x = 1", "x = 2"),
        (f"@functools.cache\ndef VALUE():\n    return 1\n{USE}", "return 1", "return 2"),
        (f"W = 1\n@functools.cache\ndef VALUE():\n    return W\n{USE}", "W = 1", "W = 2"),
        (f"{WRAPPER}@doubled\ndef objective(trial):\n    return 1\n", "* 2", "* 3"),
        (f"{WRAPPER}class VALUE:\n    @doubled\n    def f(self):\n        return 1\n{USE}", "* 2", "* 3"),
        (f"def f(x):\n    return 1\nclass VALUE:\n    def g(self): pass\n    h = f\n{USE}", "return 1", "return 2"),
        (f"W = 1\nclass VALUE:\n    class Inner:\n        x = W\n{USE}", "W = 1", "W = 2"),
        (f"W = 1\nclass VALUE:\n    @functools.cached_property\n    def x(self): return W\n{USE}", "W = 1", "W = 2"),
        (f"W = 1\nclass VALUE:\n    x = property()\n    @x.setter\n    def x(self, _): W\n{USE}", "W = 1", "W = 2"),
        (f"class F:\n    def __call__(self): pass\nclass VALUE:\n    f = F()\nVALUE.f.n = 1\n{USE}", "n = 1", "n = 2"),
        (f"class M(type):\n    def f(cls): return 1\nclass VALUE(metaclass=M): pass\n{USE}", "return 1", "return 2"),
        ("def objective(trial):\n    return objective.scale\nobjective.scale = 1\n", "scale = 1", "scale = 2"),
    ],
)  # fmt: skip
def test_digest_changes_with_what_is_carried(cell: str, before: str, after: str) -> None:
    first = text_of(cell)
    assert text_of(cell) == first
    assert text_of(cell.replace(before, after)) != first
    ast.parse(first)


def test_shared_and_nested_values_have_a_digest() -> None:
    shared = "VALUE = [1]\nfor _ in range(60):\n    VALUE = [VALUE, VALUE]\n"
    nested = "VALUE = [1]\nfor _ in range(250):\n    VALUE = [VALUE]\n"
    for cell in (shared, nested):
        texts = {text_of(cell + USE), text_of(cell.replace("[1]", "[2]") + USE)}
        assert len(texts) == 2


@pytest.mark.parametrize(
    ("imported", "used", "file"),
    [
        ("", "    import late_module\n    return late_module.f()\n", "late_module.py"),
        (
            "",
            "    def f():\n        from late_package.inner import f\n        return f()\n",
            "late_package/inner.py",
        ),
        ("import late_package.inner\n", "    return late_package.inner.f()\n", "late_package/inner.py"),
    ],
)
def test_modules_that_are_imported_late_or_lie_in_a_folder_count(
    imported: str, used: str, file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    path = tmp_path / file
    path.parent.mkdir(exist_ok=True)
    path.write_text("def f():\n    return 1\n")
    names = notebook_code.run(f"{imported}def objective(trial):\n{used}")
    first = Source({"objective": names["objective"]})
    assert first.folders == {tmp_path: None}
    assert f"# code {code.digest(str(path))}" in first.text
    path.write_text("def f():\n    return 2\n")
    assert Source({"objective": names["objective"]}).text != first.text
    for name in [name for name in sys.modules if name.startswith("late_")]:
        del sys.modules[name]
