"""Parts of Keras that are imported on their first use."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

from objectives.backend import before_import, lazy_keras


def test_part_is_executed_when_an_attribute_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    monkeypatch.setattr(lazy_keras, "MODULES", frozenset({"lazy_parts.wrappers", "lazy_parts.missing"}))
    monkeypatch.syspath_prepend(tmp_path)
    package = tmp_path / "lazy_parts"
    package.mkdir()
    (package / "__init__.py").write_text("from lazy_parts import wrappers\n")
    (package / "wrappers.py").write_text("print('executed')\nname = 'wrapper'\n")
    before_import()
    before_import()
    assert sys.meta_path.count(lazy_keras._LazyFinder) == 1
    try:
        found = importlib.import_module("lazy_parts")
        assert capsys.readouterr().out == ""
        assert found.wrappers.name == "wrapper"
        assert capsys.readouterr().out == "executed\n"
        with pytest.raises(ModuleNotFoundError):
            importlib.import_module("lazy_parts.missing")
    finally:
        for name in ("lazy_parts", "lazy_parts.wrappers"):
            sys.modules.pop(name, None)


USER = """
import lazy_tables as tables
TYPES = (list, tables.Table)
def show():
    return tables.shown()
"""
TABLES = """
print("imported")
class Table:
    pass
def shown():
    return "shown"
"""


@pytest.mark.parametrize("installed", [True, False])
def test_package_is_imported_when_others_import_it_or_a_function_is_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], installed: bool
) -> None:
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    monkeypatch.setattr(lazy_keras, "PACKAGES", {"lazy_user": "lazy_tables"})
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "lazy_user.py").write_text(USER)
    if installed:
        (tmp_path / "lazy_tables.py").write_text(TABLES)
    before_import()
    try:
        if not installed:
            with pytest.raises(ModuleNotFoundError, match="lazy_tables"):
                importlib.import_module("lazy_user")
            return
        user = importlib.import_module("lazy_user")
        assert not isinstance(1, user.TYPES)
        assert isinstance([], user.TYPES)
        assert "lazy_tables" not in sys.modules
        assert capsys.readouterr().out == ""
        table = importlib.import_module("lazy_tables").Table()
        assert isinstance(table, user.TYPES)
        assert not isinstance(1, user.TYPES)
        del sys.modules["lazy_tables"]
        assert user.show() == "shown"
        assert capsys.readouterr().out == "imported\n" * 2
    finally:
        for name in ("lazy_user", "lazy_tables"):
            sys.modules.pop(name, None)


def test_parts_exist_and_work() -> None:
    import keras

    assert sys.modules.keys() >= lazy_keras.MODULES
    assert callable(keras.wrappers.SKLearnClassifier)
    assert callable(keras.visualization.plot_image_gallery)


def test_tables_are_recognized() -> None:
    import keras
    import pandas as pd

    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    table = pd.DataFrame({"a": [1.0, 2.0], "b": [0.0, 1.0]})
    history = model.fit(table, table["a"], verbose=0)
    assert len(history.history["loss"]) == 1
