"""Files of users as modules: their names, which processes that a trial starts can import."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from hpo import user_code
from objectives import code, loader

OBJECTIVE = """
from dataclasses import dataclass

@dataclass
class Point:
    x: float

def square(point):
    return Point(point.x**2)

def objective(trial):
    return trial.suggest_float("x", 0, 1)

if __name__ == "__main__":
    raise SystemExit("this block must not run")
"""

LOAD = """
import json, sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

def main():
    from objectives import loader

    functions = [loader.load(f"{file}:objective").function for file in sys.argv[1:]]
    modules = [sys.modules[function.__module__] for function in functions]
    with ProcessPoolExecutor(1, get_context("spawn")) as executor:
        results = list(executor.map(measure, [(module.square, module.Point(3.0)) for module in modules]))
    print(json.dumps([
        [module.__name__, module.__file__, type(result) is module.Point, result.x]
        for module, result in zip(modules, results)
    ]))

def measure(work):
    function, point = work
    return function(point)

if __name__ == "__main__":
    main()
"""


def run(script: str, *arguments: Path | str, cwd: Path, **environment: str) -> str:
    """Return the output of a Python script that runs in a folder of its own."""
    path = cwd / "scripts" / "run.py"
    path.parent.mkdir(exist_ok=True)
    path.write_text(textwrap.dedent(script))
    ended = subprocess.run(
        [sys.executable, str(path), *map(str, arguments)],
        cwd=cwd,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))


NAMES = {
    "a/model_of_mine.py": "model_of_mine",
    "a/my-model.py": "my-model",
    "a/my model 2.py": "my model 2",
    "a/größe.py": "größe",
    "b/model_of_mine.py": None,
    "c/model.v2.py": None,
    "d/random.py": None,
    "e/keras.py": None,
    "f/test.py": None,
    "g/hpo.py": None,
    "m/objectives/model.py": None,
    "h/objectives.py": None,
    "i/storage.py": None,
    "j/both.py": None,
    "k/__main__.py": None,
    "l/package_of_mine/inner/model.py": "package_of_mine.inner.model",
    "n/broken_package/broken_model.py": "broken_model",
}
"""Files to the names by which Python finds them; None: it finds another or none."""


def test_other_processes_import_files_of_any_name(tmp_path: Path) -> None:
    write(tmp_path, dict.fromkeys(NAMES, OBJECTIVE))
    packages = ("j/both", "l/package_of_mine", "l/package_of_mine/inner", "m/objectives")
    write(tmp_path, {f"{name}/__init__.py": "" for name in packages})
    relative = (
        "from .layers import WIDTH\nfrom {}.layers import WIDTH as same\nassert WIDTH is same" + OBJECTIVE
    )
    package = "package_of_mine.inner"
    write(tmp_path, {"l/package_of_mine/inner/layers.py": "WIDTH = object()"})
    write(tmp_path, {"l/package_of_mine/inner/model.py": relative.format(package)})
    write(tmp_path, {"m/objectives/layers.py": "WIDTH = object()"})
    write(tmp_path, {"m/objectives/model.py": relative.format("objectives")})
    write(tmp_path, {"n/broken_package/__init__.py": "1 / 0"})
    found: list[Any] = json.loads(run(LOAD, *NAMES, cwd=tmp_path))
    for (file, name), (module, path, same, result) in zip(NAMES.items(), found, strict=True):
        assert (path, same, result) == (str(tmp_path / file), True, 9.0)
        if name is None:
            assert module.startswith("hpo.user_code./")
        else:
            assert module == name


def test_file_in_a_shared_folder_is_imported_by_other_processes(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    write(shared, {"in_tmp.py": "import beside_it\n" + OBJECTIVE, "beside_it.py": ""})
    shared.chmod(0o1777)
    [[name, path, same, result]] = json.loads(run(LOAD, shared / "in_tmp.py", cwd=tmp_path))
    assert name == user_code.name_in(shared, "in_tmp")
    assert (path, same, result) == (str(shared / "in_tmp.py"), True, 9.0)


def test_functions_next_to_a_file_in_a_shared_folder_are_found_by_other_processes(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    user = "from beside_it import Point, square\n\ndef objective(trial):\n    return 1.0\n"
    # Both import one another.
    other = "import beside_it\n\ndef square(point):\n    return beside_it.square(point)\n"
    files = {"in_tmp.py": user, "beside_it.py": "import another\n" + OBJECTIVE, "another.py": other}
    write(shared, files)
    shared.chmod(0o1777)
    [[_, path, same, result]] = json.loads(run(LOAD, shared / "in_tmp.py", cwd=tmp_path))
    assert (path, same, result) == (str(shared / "in_tmp.py"), True, 9.0)


def test_error_of_a_package_is_raised_where_its_module_needs_it(tmp_path: Path) -> None:
    write(tmp_path, {"p_of_zero/__init__.py": "1 / 0", "p_of_zero/needs.py": "from . import x\n"})
    with pytest.raises(ZeroDivisionError):
        user_code.load(tmp_path / "p_of_zero" / "needs.py")


def test_module_is_found_by_its_name_of_earlier_versions(tmp_path: Path) -> None:
    write(tmp_path, {"formerly.py": OBJECTIVE})
    module = user_code.load(tmp_path / "formerly.py")
    assert [one for name, one in sys.modules.items() if name.startswith("_objective_") and one is module]


OURS = """
import {first}
import hpo
from hpo import load_study, KerasObjective
from storage.opening import open_database
import objectives.loader, storage
assert objectives.loader.load("digits-cnn").dataset == "digits"
from storage import mine
from objectives import mine as other
print(mine, other, storage.mine, objectives.mine)
"""


@pytest.mark.parametrize(
    ("first", "layout"), [("hpo", "{}.py"), ("storage", "{}.py"), ("objectives", "{}/__init__.py")]
)
def test_file_with_the_name_of_a_package_of_ours_shadows_nothing(
    tmp_path: Path, first: str, layout: str
) -> None:
    write(tmp_path / "yours", {layout.format("objectives"): "mine = 1", layout.format("storage"): "mine = 2"})
    assert run(OURS.format(first=first), cwd=tmp_path, PYTHONPATH=str(tmp_path / "yours")) == "2 1 2 1\n"


def test_files_beside_an_objective_may_have_names_of_ours(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "train_it.py": """
                import storage
                from objectives import EPOCHS
                from objectives import KerasObjective
                from hpo import Objective
                from storage import read
                def objective(trial):
                    return read() + EPOCHS + storage.read()
            """,
            "storage.py": "def read():\n    return 1",
            "objectives.py": "import train_it\nEPOCHS = 3",
        },
    )
    script = """
        import sys
        from objectives import loader
        print(loader.load(sys.argv[1]).function(None))
    """
    assert run(script, f"{tmp_path}/train_it.py:objective", cwd=tmp_path) == "5\n"
    assert {"storage.py", "objectives.py"} < code.files(str(tmp_path / "train_it.py")).keys()


def test_digest_of_a_package_covers_what_its_import_runs(tmp_path: Path) -> None:
    files = {
        "p/__init__.py": "",
        "p/q/__init__.py": "import p.first",
        "p/q/model.py": "from . import layers\nfrom ..common import x\nimport p.q.deep, helper, beside",
        "p/q/layers.py": "",
        "p/q/deep.py": "",
        "p/q/helper.py": "",
        "p/common.py": "",
        "p/first.py": "",
        "beside.py": "",
    }
    write(tmp_path, files)
    model = tmp_path / "p" / "q" / "model.py"
    assert set(code.files(str(model))) == {
        "model.py",
        "__init__.py",
        "layers.py",
        "deep.py",
        "helper.py",
        "../common.py",
        "../first.py",
        "../../beside.py",
    }
    assert {"p.first", "p.q.layers", "helper"} <= set(loader.imports(f"{model}:objective"))
