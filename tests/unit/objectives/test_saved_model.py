"""Saved models with code of a user: what loads them in a new process."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from hpo import LocalRun
from objectives import loader, saved_model
from tests.acceptance.fork_server import ForkServer

NETS = """
import keras

class Scale(keras.layers.Layer):
    def call(self, x):
        return 2 * x

@keras.saving.register_keras_serializable()
class Registered(keras.layers.Layer):
    def call(self, x):
        return 2 * x

@keras.saving.register_keras_serializable("mine", name="flat")
def registered(x):
    return x

def plain(x):
    return x

def distance(a, b):
    return keras.ops.mean((a - b) ** 2)

class Momentum(keras.optimizers.SGD):
    pass

class Unsavable(keras.layers.Layer):
    def __init__(self, width):
        super().__init__()
        self.width = width

    def call(self, x):
        return x

def local():
    class Inner(keras.layers.Layer):
        def call(self, x):
            return x

    def inner(x):
        return x

    return [Inner(), keras.layers.Dense(1, activation=inner)]

MODELS = {
    "local": local,
    "stock": lambda: [keras.layers.Dense(1, "relu")],
    "registered": lambda: [Registered(), keras.layers.Dense(1, activation=registered)],
    "own": lambda: [Scale(), Registered(), keras.layers.Dense(1, activation=plain)],
    "unsavable": lambda: [Unsavable(object())],
}

def objective(trial):
    model = keras.Sequential([keras.Input((2,)), *MODELS[trial]()])
    own = trial == "own"
    model.compile(Momentum(0.1) if own else "sgd", distance if own else "mse", metrics=[distance] if own else ["mae"])
    return model
"""


def saved(file: Path, model: str) -> LocalRun:
    """Return a run that has saved a model of a file, into a folder next to it."""
    run = LocalRun(total_epochs=1, final=True, output=file.parent / model)
    function: Any = loader.load(f"{file}:objective").function  # type: ignore[attr-defined]
    saved_model.save(function(model), run)
    return run


def test_recorded_lines_load_a_model_in_a_new_process(tmp_path: Path, keras_commands: ForkServer) -> None:
    """All names share one process, because Keras takes seconds to start."""
    code = ["import os, sys"]
    for name in ("nets", "my-nets", "keras"):
        file = tmp_path / f"of-{name}" / f"{name}.py"
        file.parent.mkdir()
        file.write_text(NETS)
        code.append(f"sys.path.append({str(file.parent)!r})")
        # Registered classes need no more than an import, so their model comes first.
        for model in ("registered", "own"):
            lines = saved(file, model).results["load_model"]
            assert ("custom_objects" in lines[-1]) is (model == "own")
            assert (lines[0] == "import nets") is (name == "nets")
            # Each file has these functions, and its model those of its own.
            assert not any(line == "import nets" for line in lines[1:])
            code += [f"os.chdir({str(file.parent / model)!r})", *lines, "assert model.count_params() == 3"]
    ended = keras_commands.run("\n".join(code), tmp_path, timeout=200.0)
    assert ended.returncode == 0, ended.stderr


def test_model_of_a_notebook_takes_its_classes_from_it(monkeypatch: pytest.MonkeyPatch) -> None:
    notebook = ModuleType("__main__")
    exec("def act(x):\n    return x\n", vars(notebook))
    monkeypatch.setitem(sys.modules, "__main__", notebook)
    config = {
        "layers": [
            {"module": None, "class_name": "Twice", "config": {}, "registered_name": "Twice"},
            {"module": "builtins", "class_name": "function", "config": "act", "registered_name": "function"},
            {"module": "keras.layers", "class_name": "Dense", "config": {}, "registered_name": None},
        ]
    }
    assert saved_model.loading_code(config) == [
        "import __main__",
        "import keras",
        "model = keras.saving.load_model('model.keras', custom_objects={'Twice': __main__.Twice, 'act': __main__.act})",
    ]


def test_stock_model_needs_nothing_and_one_that_cannot_be_saved_is_reported(tmp_path: Path) -> None:
    file = tmp_path / "nets_to_save.py"
    file.write_text(NETS)
    assert "load_model" not in saved(file, "stock").results
    lines = saved(file, "local").results["load_model"]
    assert "load_model('model.keras')" in lines[-2]
    assert lines[-1].startswith("# Inner, inner, defined in a function, cannot be imported")
    run = saved(file, "unsavable")
    assert "load_model" not in run.results
    assert "model.keras is not written" in run.messages[0]
    assert not (tmp_path / "unsavable" / "model.keras").exists()
