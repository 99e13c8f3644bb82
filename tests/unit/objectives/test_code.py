"""The digest of an objective's code changes with its file and with the modules that it imports from its folder."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from objectives import code, loader

MAIN = """
import json, shared.layers
import hpo.errors
from . import nothing
from shared import deep as d
def build():
    import lazy
    from importlib import import_module
    import_module("named")
"""
FILES = {
    "main.py": MAIN,
    "lazy.py": "from onward import *",
    "onward.py": "import lazy",
    "named.py": "not Python",
    "shared/__init__.py": "",
    "shared/layers.py": "from . import deep; from .deep import x; from ..lazy import y",
    "shared/deep.py": "x = 1",
    "shared/other.py": "",
    "unused.py": "",
    "json/decoder.py": "",
}


def write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def test_modules_that_are_imported_from_beside_the_file_are_covered(tmp_path: Path) -> None:
    write(tmp_path, FILES)
    covered = set(code.files(str(tmp_path / "main.py")))
    assert covered == FILES.keys() - {"shared/other.py", "unused.py", "json/decoder.py"}


@pytest.mark.parametrize(
    ("change", "same"),
    [
        (lambda folder: write(folder, {"unused.py": "x = 2", "data.csv": "1"}), True),
        (lambda folder: (folder / "lazy.py").write_bytes(b"from onward import *\r\n"), True),
        (lambda folder: write(folder, {"shared/deep.py": "x = 2"}), False),
        (lambda folder: write(folder, {"main.py": MAIN + "# other"}), False),
        (lambda folder: (folder / "onward.py").unlink(), False),
    ],
)
def test_digest_changes_with_covered_files_alone(
    tmp_path: Path, change: Callable[[Path], object], same: bool
) -> None:
    write(tmp_path, FILES | {"lazy.py": "from onward import *\n"})
    before = code.digest(str(tmp_path / "main.py"))
    change(tmp_path)
    assert (code.digest(str(tmp_path / "main.py")) == before) is same


def test_code_in_another_folder_has_the_same_digest(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write(tmp_path / name, FILES)
    assert len({code.digest(str(tmp_path / name / "main.py")) for name in ("a", "b")}) == 1


def test_modules_of_a_package_are_covered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, {f"package_of_code/{name}": text for name, text in FILES.items()})
    write(tmp_path, {"package_of_code/__init__.py": "", "package_of_code/main.py": "from . import main"})
    monkeypatch.syspath_prepend(str(tmp_path))
    covered = code.files("package_of_code.main")
    assert set(covered) == {"package_of_code/__init__.py", "package_of_code/main.py"}
    sys.modules.pop("package_of_code", None)


def test_shipped_objective_has_a_digest_of_its_own_file() -> None:
    assert set(code.files("objectives.shipped.digits_cnn")) == {"objectives/shipped/digits_cnn.py"}
    assert len(loader.code_digest("digits-cnn")) == code.DIGITS
