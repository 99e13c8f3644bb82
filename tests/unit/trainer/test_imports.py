"""Modules that a trial has imported, and the reasons why its template does not import them for the next one."""

from __future__ import annotations

import os
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

import pytest

from hpo.trainer import imports
from hpo.trainer.imports import ImportWatch
from hpo.trainer.messages import Imported


@pytest.fixture
def objective(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(imports, "_INSTALLED", (tmp_path / "site",))
    file = tmp_path / "mine.py"
    file.write_text(
        "import helper\ndef objective(trial):\n    import slow.part, gone\n    from slow import other\n"
    )
    (tmp_path / "helper.py").write_text("def late():\n    import numba, deep\n")
    return file


def found(file: Path, monkeypatch: pytest.MonkeyPatch, **modules: object) -> Imported:
    """Return the modules of a trial that imports these, by name with `__` for a dot: from a file or as an object."""
    for name in modules:
        monkeypatch.delitem(sys.modules, name.replace("__", "."), raising=False)
    watch = ImportWatch()
    for name, origin in modules.items():
        key = name.replace("__", ".")
        module = origin if not isinstance(origin, str) else ModuleType(key)
        if isinstance(origin, str):
            module.__spec__ = ModuleSpec(key, None, origin=origin)
        monkeypatch.setitem(sys.modules, key, module)
    return watch.found(f"{file}:objective")


def test_installed_modules_that_the_code_names_are_found(
    objective: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = str(objective.parent / "site" / "module.py")
    beside = {"helper": str(objective.parent / "helper.py"), "gone": "built-in"}
    others = {"slow__unnamed": site, "unnamed": site, "json": site}
    named = {"slow": site, "slow__part": site, "deep": site, "keras": site}
    result = found(objective, monkeypatch, **beside, **others, **named)
    assert result == Imported(("slow.part", "slow", "deep", "keras"))


@pytest.mark.parametrize("module", [None, object(), ModuleType("other.name"), ModuleType("slow")])
def test_modules_of_any_kind_are_left_out(
    objective: Path, monkeypatch: pytest.MonkeyPatch, module: object
) -> None:
    assert found(objective, monkeypatch, slow=module) == Imported(())


def test_package_that_reads_its_threads_is_left_to_each_trial(
    objective: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = str(objective.parent / "site" / "module.py")
    result = found(objective, monkeypatch, slow=site, numba=site)
    assert result.obstacle == "numba reads its number of threads while it is imported"


@pytest.mark.parametrize(
    ("variable", "obstacle"),
    [
        ("KERAS_BACKEND", "trials set the environment variable KERAS_BACKEND"),
        ("HF_HOME", "trials set the environment variable HF_HOME"),
        ("TF_CPP_MIN_LOG_LEVEL", ""),
        ("KMP_INIT_AT_FORK", ""),
    ],
)
def test_variable_that_is_set_before_an_import_leaves_it_to_each_trial(
    objective: Path, monkeypatch: pytest.MonkeyPatch, variable: str, obstacle: str
) -> None:
    watch = ImportWatch()
    module = ModuleType("slow")
    module.__spec__ = ModuleSpec("slow", None, origin=str(objective.parent / "site" / "slow.py"))
    monkeypatch.setitem(sys.modules, "slow", module)
    monkeypatch.setitem(os.environ, variable, "changed")
    assert watch.found(f"{objective}:objective") == Imported(("slow",), obstacle)


@pytest.mark.parametrize(
    ("line", "sets"),
    [
        ("os.environ['A'] = '1'", True),
        ("del os.environ['A']", True),
        ("os.environ.update(A='1')", True),
        ("environ.setdefault('A', '1')", True),
        ("os.putenv('A', '1')", True),
        ("names = os.environ", True),
        ("print(os.environ['A'], os.environ.get('B'), 'C' in os.environ, os.getenv('D'))", False),
        ("os.environ['TF_CPP_MIN_LOG_LEVEL'] = '3'", False),
        ("os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')", False),
    ],
)
def test_functions_that_set_variables_are_recognized(
    objective: Path, monkeypatch: pytest.MonkeyPatch, line: str, sets: bool
) -> None:
    # At the top of the file, it runs before the template imports anything else.
    objective.write_text(f"import os\nimport helper\n{line}\n")
    (objective.parent / "helper.py").write_text(f"def late():\n    import slow\n    {line}\n")
    site = str(objective.parent / "site" / "module.py")
    assert bool(found(objective, monkeypatch, slow=site).obstacle) == sets
    (objective.parent / "helper.py").write_text("import slow")
    assert not found(objective, monkeypatch, keras=site).obstacle
