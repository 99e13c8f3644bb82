"""Objectives that are carried to trials: payloads, and the sources that their digests are made of."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hpo.errors import ObjectiveBrokenError, ObjectiveFileError, UsageError
from hpo.python import payload
from hpo.python.definition import Definition, _write, define, reference_of
from hpo.python.payload import PayloadError, load_payload
from hpo.python.source import Source
from hpo.settings import OF_OBJECTIVE
from objectives import code, loader
from tests.unit.python import notebook_code

CELL = """
import math
import numpy as np
import helpers
from helpers import shift as moved

WIDTH = 3
TABLE = np.arange(6.0)

class Model:
    depth = WIDTH
    def __init__(self, x):
        self.x = x
    def loss(self):
        return inner(self.x)

def inner(x):
    return moved(x) * WIDTH + TABLE.sum() + math.pi

def objective(trial):
    import json
    return Model(trial.suggest_float("x", 0, 1)).loss() + helpers.ZERO
"""


@pytest.fixture
def helpers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A module of the user's, next to the notebook."""
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "helpers.py").write_text("ZERO = 0\n\ndef shift(x):\n    return x + 1\n")
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delitem(sys.modules, "helpers", raising=False)
    yield folder / "helpers.py"
    sys.modules.pop("helpers", None)


def cell(text: str) -> dict[str, Any]:
    """Run a cell, and return the names that it leaves."""
    return notebook_code.run(text)


def written(folder: Path, definition: Definition) -> Path:
    """Write a definition as a launch of a new study does, and return its module."""
    _write(None, definition, folder / "home" / "s", None)  # type: ignore[arg-type]
    return folder / "home" / "s" / "objective.py"


def test_source_holds_all_that_an_objective_uses(helpers: Path) -> None:
    source = Source({"objective": cell(CELL)["objective"]})
    imports, values, *definitions = source.text.split("\n\n")
    digest = code.digest(str(helpers))
    assert imports.splitlines() == [
        f"from helpers import shift as moved  # code {digest}",
        f"import helpers  # code {digest}",
        "import math",
    ]
    assert "WIDTH = 3" in values
    assert "TABLE = ...  # ndarray of shape (6,), sha256 " in values
    text = "\n\n".join(definitions)
    for part in CELL.split("\n\n")[2:]:
        assert part.strip() in text
    assert source.folders == {helpers.parent: None}


@pytest.mark.usefixtures("helpers")
def test_payload_runs_in_another_process(tmp_path: Path) -> None:
    names = cell(CELL)
    module = written(tmp_path, define(names["objective"]))
    assert {path.stat().st_mode & 0o077 for path in module.parent.rglob("*")} == {0}
    program = f"""
import multiprocessing, sys
from types import SimpleNamespace
from objectives import loader
found = loader.load({str(module)!r} + ":objective").function
trial = SimpleNamespace(suggest_float=lambda *_: 0.5)
main = sys.modules["__main__"]
pool = multiprocessing.get_context("fork").Pool(1)
print(float(found(trial)), list(map(float, pool.map(main.objective.__globals__["inner"], [0.5]))))
pool.terminate()
print(loader.imports({str(module)!r} + ":objective"))
"""
    environment = os.environ | {OF_OBJECTIVE: "1"}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, env=environment
    )
    assert done.stderr == ""
    result, imported = done.stdout.splitlines()
    expected = float(names["inner"](0.5))
    assert result == f"{expected} [{expected}]"
    assert {"math", "json"} <= set(eval(imported))


@pytest.mark.parametrize(
    ("before", "after", "changes"),
    [
        ("WIDTH = 3", "WIDTH = 4", True),
        ("np.arange(6.0)", "np.arange(6.0) + (np.arange(6) == 5)", True),
        ("x) * WIDTH", "x) / WIDTH", True),
        ("return x + 1", "return x + 2", True),
        ("import math\n", "import math\n\nUNUSED = 1\n\n\n", False),
        ("depth = WIDTH", "depth = WIDTH + 0", True),
    ],
)
def test_digest_changes_with_what_is_used(before: str, after: str, changes: bool, helpers: Path) -> None:
    first = Source({"objective": cell(CELL)["objective"]}).text
    again = Source({"objective": cell(CELL)["objective"]}).text
    assert first == again
    helpers.write_text(helpers.read_text().replace(before, after))
    changed = Source({"objective": cell(CELL.replace(before, after))["objective"]}).text
    assert (changed != first) is changes


def test_closed_over_values_and_attributes_belong_to_the_digest() -> None:
    make = cell(
        "def make(n, options):\n    def objective(trial):\n        return n, options\n    return objective\n"
        "class Call:\n    def __init__(self, n):\n        self.n = n\n"
        "    def __call__(self, trial):\n        return self.n\n"
    )
    variants = [
        make["make"](1, {"a"}),
        make["make"](2, {"a"}),
        make["make"](1, {"b"}),
        make["Call"](1),
        make["Call"](2),
        functools.partial(make["make"](1, {"a"}), 1),
        functools.partial(make["make"](1, {"a"}), 2),
        lambda _: 1,
        lambda _: 2,
    ]
    texts = [Source({"objective": found}).text for found in variants]
    assert len(set(texts)) == len(texts)


@pytest.mark.usefixtures("helpers")
def test_classes_and_functions_of_a_notebook_are_found_by_their_names() -> None:
    names = cell(CELL)
    assert set(payload._of_main(names["objective"])) == {"Model", "inner", "objective"}
    assert set(payload._of_main(names["Model"])) == {"Model", "inner", "objective"}


def test_value_that_cannot_be_carried_is_named(tmp_path: Path) -> None:
    names = cell("def objective(trial):\n    with lock:\n        return 1.0\n")
    names["lock"] = threading.Lock()
    with pytest.raises(
        PayloadError, match=r"because it uses lock, an object of type lock .*: make it in the"
    ):
        written(tmp_path, define(names["objective"]))
    assert list((tmp_path / "home" / "s").iterdir()) == []


def test_too_large_value_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(payload, "MOST_BYTES", 1_000_000)
    names = cell("def objective(trial):\n    return x[0] + y[0]\n")
    names |= {"x": np.zeros(10**6), "y": np.zeros(10)}
    notebook_code.update(names)
    with pytest.raises(
        PayloadError, match=r"take more than 0.0 GB, x alone 0.0 GB: load large data in the obj"
    ):
        written(tmp_path, define(names["objective"]))


def test_array_is_kept_once(tmp_path: Path) -> None:
    names = cell(
        "def f():\n    return x[0]\ndef g():\n    return x[1]\ndef objective(trial):\n    return f() + g()\n"
    )
    notebook_code.update({"x": np.arange(100_000.0)})
    module = written(tmp_path, define(names["objective"]))
    (pickled,) = module.parent.glob("payload-*")
    assert 800_000 < pickled.stat().st_size < 810_000


def test_functions_with_a_cache_are_carried(tmp_path: Path) -> None:
    names = cell(
        "import functools\n@functools.lru_cache(maxsize=7)\ndef fib(n):\n"
        "    return n if n < 2 else fib(n - 1) + fib(n - 2)\n"
        "def objective(trial):\n    return fib(80), fib.cache_parameters()\n"
    )
    module = written(tmp_path, define(names["objective"]))
    del names["fib"]
    found = loader.load(f"{module}:objective").function(None)
    assert found == (23416728348467685, {"maxsize": 7, "typed": False})


def test_payload_of_others_is_not_read(tmp_path: Path) -> None:
    module = written(tmp_path, define(lambda _: 1.0))
    (pickled,) = module.parent.glob("payload-*")
    pickled.chmod(0o666)
    with pytest.raises(
        ObjectiveFileError, match="may be written by every user: correct the owner or the mode"
    ):
        load_payload(str(module), pickled.name, payload.python_version())


def test_incomplete_payload_is_refused(tmp_path: Path) -> None:
    module = written(tmp_path, define(lambda _: 1.0))
    (pickled,) = module.parent.glob("payload-*")
    with pytest.raises(ObjectiveBrokenError, match=r"it was defined in Python 3\.1, and this is"):
        load_payload(str(module), pickled.name, "3.1")
    pickled.unlink()
    with pytest.raises(ObjectiveBrokenError, match="copy the whole folder from the host"):
        loader.load(f"{module}:objective")


def test_payload_has_the_digest_of_its_source_and_the_present_objects(tmp_path: Path) -> None:
    def definition(value: int) -> Definition:
        return define(cell(f"def objective(trial):\n    return {value}\n")["objective"])

    module = written(tmp_path, definition(1))
    (before,) = module.parent.glob("payload-*")
    digest = code.digest(str(module))
    before.write_bytes(b"of another launch")
    written(tmp_path, definition(1))
    assert list(module.parent.glob("payload-*")) == [before]
    assert code.digest(str(module)) == digest
    assert loader.load(f"{module}:objective").function(None) == 1
    written(tmp_path, definition(2))
    (after,) = module.parent.glob("payload-*")
    assert after.name != before.name
    assert code.digest(str(module)) != digest


def test_folders_of_others_are_not_imported_from(tmp_path: Path) -> None:
    open_folder = tmp_path / "open"
    open_folder.mkdir()
    open_folder.chmod(0o777)
    module = written(tmp_path, define(lambda _: 1.0))
    (module.parent / payload.FOLDERS).write_text(json.dumps([str(open_folder), str(tmp_path / "missing")]))
    (pickled,) = module.parent.glob("payload-*")
    main = sys.modules["__main__"]
    load_payload(str(module), pickled.name, payload.python_version())
    assert sys.modules["__main__"] is main
    assert not {str(open_folder), str(tmp_path / "missing")} & set(sys.path)


def test_builder_takes_its_data_from_the_notebook_or_the_call() -> None:
    names = cell(
        "epochs = 3\nobjective = 'val_mae'\ndef data():\n    return 1\ndef build(hp):\n    return None\n"
    )
    definition = define(names["build"])
    assert set(definition.objects) == {"build", "data", "objective", "epochs"}
    given = define(names["build"], data=((1, 2), (3, 4)), metric="val_loss").objects
    assert (given["data"](), given["objective"]) == (((1, 2), (3, 4)), "val_loss")
    with pytest.raises(UsageError, match="data and metric apply to a KerasTuner model builder only"):
        define(lambda _: 1.0, metric="val_loss")
    with pytest.raises(UsageError, match="an object of type int: give a class or function"):
        define(3)


def test_objective_of_a_file_or_module_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_search.py").write_text(
        "def objective(trial):\n    return 1.0\n\nother = lambda trial: 2.0\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    import my_search

    assert reference_of(my_search.objective) == f"{tmp_path}/my_search.py:objective"
    assert reference_of(my_search.other) is None
    assert reference_of(functools.partial(my_search.objective)) is None
    assert reference_of(loader.load("digits-cnn")) == "objectives.shipped.digits_cnn:DigitsCNN"
    sys.modules.pop("my_search")
