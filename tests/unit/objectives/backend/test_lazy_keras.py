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


def test_parts_exist_and_work() -> None:
    import keras

    assert sys.modules.keys() >= lazy_keras.MODULES
    assert callable(keras.wrappers.SKLearnClassifier)
    assert callable(keras.visualization.plot_image_gallery)
