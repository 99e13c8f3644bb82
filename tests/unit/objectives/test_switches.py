"""Parts of an objective's recipe that a trial switches off."""

from __future__ import annotations

from typing import Any

import pytest
from optuna.distributions import CategoricalDistribution

from hpo.errors import ObjectiveBrokenError
from objectives.augment import Augmentation, Mixing
from objectives.keras_objective import KerasObjective
from objectives.runs.switches import applied, switches
from objectives.shipped.cifar_cnn import CifarCNN
from objectives.shipped.digits_cnn import DigitsCNN
from objectives.shipped.image_cnn import ImageCNN


def without(objective: KerasObjective, **off: str) -> tuple[Any, dict[str, Any]]:
    params = {"dropout": 0.1, **{f"recipe.{name}".replace("__", "."): value for name, value in off.items()}}
    return applied(objective, params, objective.space, KerasObjective)


def test_switches_are_the_parts_that_a_class_turns_on() -> None:
    assert switches(DigitsCNN, KerasObjective) == {}
    assert switches(CifarCNN, KerasObjective) == {
        "recipe.augmentation": "on",
        "recipe.augmentation.flip": "True",
        "recipe.augmentation.shift": "4",
        "recipe.augmentation.rotation_degrees": "8",
        "recipe.augmentation.cutout": "8",
        "recipe.label_smoothing": "0.1",
    }
    # Its augmentation depends on the images.
    assert switches(ImageCNN, KerasObjective) == {
        "recipe.augmentation": "on",
        "recipe.label_smoothing": "0.1",
    }
    assert CifarCNN.describe("c").recipe == switches(CifarCNN, KerasObjective)


def test_parts_of_training_recipes_are_switched_off_as_a_whole() -> None:
    parts = {
        "mixing": Mixing(mixup=0.2, cutmix=1.0),
        "weight_averaging": "lookahead",
        "schedule": "constant-decay",
    }
    cls = type("Parts", (DigitsCNN,), parts | {"learning_rate_factors": {"beta": 4.0}})
    shown = {"mixing": "on", "weight_averaging": "lookahead", "learning_rate_factors": "on"}
    shown["schedule"] = "constant-decay"
    assert switches(cls, KerasObjective) == {f"recipe.{name}": value for name, value in shown.items()}
    plain, _ = without(cls(), **dict.fromkeys(shown, "off"))
    assert [getattr(plain, name) for name in shown] == [None, None, {}, "cosine"]


def test_switched_off_parts_are_those_of_the_base_class_for_one_trial_alone() -> None:
    objective = CifarCNN()
    plain, params = without(objective, label_smoothing="off", augmentation="off")
    assert (plain.label_smoothing, plain.augment(None), params) == (0.0, None, {"dropout": 0.1})
    some, _ = without(objective, augmentation__flip="off", augmentation__cutout="off", label_smoothing="on")
    assert some.augment(None) == Augmentation(shift=4, rotation_degrees=8, rotated_share=0.25, fill=121)
    assert some.label_smoothing == objective.label_smoothing == 0.1
    assert objective.augment(None) is CifarCNN.augmentation
    assert without(objective)[0] is objective


def test_parameter_of_the_objective_of_such_a_name_is_its_own() -> None:
    class Own(DigitsCNN):
        space = {"recipe.label_smoothing": CategoricalDistribution(["on", "off"])}

    objective = Own()
    assert without(objective, label_smoothing="off") == (
        objective,
        {"dropout": 0.1, "recipe.label_smoothing": "off"},
    )


@pytest.mark.parametrize("name", ["widths", "augmentation__blur", "label_smoothing__x"])
def test_unknown_part_is_refused(name: str) -> None:
    with pytest.raises(ObjectiveBrokenError, match="part"):
        without(CifarCNN(), **{name: "off"})[0].augment(None)
