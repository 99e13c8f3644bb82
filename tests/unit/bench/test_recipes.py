"""The benchmark of recipes changes one part at a time, goes on where it stopped, and pairs seeds."""

from __future__ import annotations

import argparse
import json

import pytest

from bench import recipes
from objectives import loader, validation
from objectives.augment import CIFAR10

SETTING = {"objective": "cifar-cnn", "limit": 100, "epochs": 2, "params": {"dropout": 0.1}}


def result(recipe: str, seed: int, accuracy: float, seconds: float = 10.0) -> dict:
    about = {"recipe": recipe, "seed": seed, "val_accuracy": accuracy, "val_loss": 1.0, "seconds": seconds}
    return SETTING | about | {"commit": "abc", "processor": "made up"}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(recipes, "FILE", tmp_path / "recipes.jsonl")
    monkeypatch.setattr(recipes, "RESULTS", tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", ["digits-cnn", "mnist-cnn", "mnist-resnet", "cifar-cnn", "cifar-resnet"])
def test_every_recipe_of_a_shipped_objective_is_valid(name):
    cls = loader.load(name)
    changed = {recipe: recipes.made(cls, recipe) for recipe in recipes.RECIPES}
    assert [validation.problem(one) for one in changed.values() if one is not None] == [None] * len(
        [one for one in changed.values() if one is not None]
    )
    assert (changed["alternating-flip"] is None) == (not (cls.augmentation and cls.augmentation.flip))
    assert len([one for one in changed.values() if one is not None]) >= 14


def test_recipes_are_combined():
    cls = recipes.made(loader.load("cifar-cnn"), "dirac+gelu+lookahead+fade+alternating-flip")
    assert cls.parts == {"dirac": True, "activation": "gelu"}
    assert cls.weight_averaging == "lookahead"
    assert (cls.augmentation.flip, cls.augmentation.fade) == ("alternating", 0.3)
    assert loader.load("cifar-cnn").augmentation == CIFAR10
    with pytest.raises(SystemExit, match="unknown recipe 'sgdr': use as shipped"):
        recipes.made(cls, "sgdr")


def test_effects_are_paired_by_seed():
    for seed, accuracy in enumerate((0.80, 0.70, 0.75)):
        recipes.keep(result(recipes.BASE, seed, accuracy))
        recipes.keep(result("gelu", seed, accuracy + 0.01 + 0.001 * seed, 12.0))
    recipes.keep(result("gelu", 3, 0.99))
    with recipes.FILE.open("a") as file:
        file.write('{"objective": "cifar-c')
    recipes.keep(result("silu", 0, 0.79))
    base, gelu, silu = recipes.rows(recipes.results())
    assert base["recipe"] == recipes.BASE
    assert (gelu["n"], gelu["effect in points"], gelu["95 %, paired"]) == (3, 1.1, "+0.85 to +1.35")
    assert (silu["n"], silu["effect in points"], silu["95 %, paired"]) == (1, -1.0, None)
    assert gelu["seconds × base"] == pytest.approx(1.2)
    table = recipes.write_table().read_text()
    assert "**cifar-cnn, 100 training images, 2 epochs, dropout 0.1**" in table


def test_measurement_goes_on_with_missing_trainings(monkeypatch):
    trained = []

    def forked(_, objective, *arguments):
        trained.append((type(objective).weight_averaging, arguments[2]))
        return lambda: {"val_accuracy": 0.5, "val_loss": 1.0, "seconds": 1.0}

    monkeypatch.setattr(recipes, "forked", forked)
    monkeypatch.setattr("objectives.keras_objective.KerasObjective.prepare", lambda *_, **__: None)
    options = {"objective": "cifar-cnn", "limit": 100, "epochs": 2, "params": "{}", "gpu": None}
    for seeds in (1, 2):
        recipes.measure(argparse.Namespace(**options, seeds=seeds, recipe=["lookahead"]))
    assert trained == [(None, 0), ("lookahead", 0), (None, 1), ("lookahead", 1)]
    kept = [json.loads(line) for line in recipes.FILE.read_text().splitlines()]
    assert [(one["recipe"], one["seed"]) for one in kept] == [
        (recipe, seed) for seed in (0, 1) for recipe in (recipes.BASE, "lookahead")
    ]
