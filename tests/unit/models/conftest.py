"""Folders as `hpo retrain` writes them, with untrained models."""

from __future__ import annotations

import functools
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import pytest

MakeModel = Callable[..., Path]


def _made(folder: Path, model: keras.Model, **recorded: Any) -> Path:
    folder.mkdir(exist_ok=True)
    model.save(folder / "model.keras")
    lines = recorded.pop("load_model", None)
    run = {"seed": 1} | ({"load_model": lines} if lines else {})
    metrics = {"objective": "pets.py:Pets", "backend": "tensorflow", **recorded, "runs": [run]}
    (folder / "metrics.json").write_text(json.dumps(metrics))
    return folder


@pytest.fixture
def make_model(tmp_path: Path) -> MakeModel:
    """Return a function that writes a model and its metrics.json, and returns their folder."""
    return functools.partial(_made, tmp_path / "results")


@pytest.fixture
def image_model(written: Path, tmp_path: Path) -> Path:
    """Return the folder of a classifier of colour images of 29×29, which a test may change."""
    return shutil.copytree(written, tmp_path / "results")


@pytest.fixture(scope="session")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of that classifier, to be copied."""
    keras.utils.set_random_seed(1)
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((29, 29, 3)),
            layers.Rescaling(1 / 255),
            layers.Conv2D(4, 5, activation="relu", strides=4),
            layers.Flatten(),
            layers.Dense(3),
            layers.Softmax(name="probabilities"),
        ]
    )
    return _made(
        tmp_path_factory.mktemp("models") / "results",
        model,
        task="classes",
        classes=["cross", "disc", "stripes"],
        input={"shape": [29, 29, 3], "dtype": "uint8", "image_fit": "crop", "image_size": 29},
    )
