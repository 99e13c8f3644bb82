"""`MODEL.md`: the card of a retrained model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from hpo.export.config import Config
from hpo.retrain.results import SeedResult, write_results
from hpo.trainer.messages import EpochRecord

CONFIG = Config(
    objective="pets.py:Pets",
    params={"rate": 0.01, "na|me": "`odd`"},
    epochs=3,
    seed=0,
    metric="val_accuracy",
    direction="maximize",
    study="pets",
    trial=4,
    data={"source": "photos", "image_fit": "crop", "image_size": None},
)
CLASSES: dict[str, Any] = {
    "task": "classes",
    "classes": ["cat", "dog"],
    "test_accuracy": 0.875,
    "test_loss": 0.5,
    "test_intervals": {"test_accuracy": [0.53, 0.97]},
    "confusion": [[2, 1], [0, 5]],
    "n_test": 8,
    "n_train": 88,
    "parameters": 1234,
    "input": {"shape": [29, 32, 3], "dtype": "uint8"},
    "examples": {"train": {"cat": 80, "dog": 8}, "test": {"cat": 3, "dog": 5}},
}


def card(tmp_path: Path, *recorded: Mapping[str, Any], **about: Any) -> str:
    """Return the card of runs with these records."""
    (tmp_path / "model.keras").write_text("a model")
    runs = [
        SeedResult(seed, (EpochRecord(1, {"loss": 0.1}, 1.0),), one, 1.0)
        for seed, one in enumerate(recorded, 1)
    ]
    about = {"versions": {"keras": "3.15", "data": "photos: 88 images, digest 17ab"}, "seeds": [1]} | about
    write_results(tmp_path / "s", CONFIG, runs, about, tmp_path / "model.keras")
    return (tmp_path / "s" / "MODEL.md").read_text()


def test_card_of_a_classifier_has_results_data_limits_and_use(tmp_path: Path) -> None:
    text = card(
        tmp_path,
        CLASSES,
        {**CLASSES, "test_accuracy": 0.75, "test_intervals": {"test_accuracy": [0.4, 0.9]}},
        test_openings=2,
    )
    for line in (
        "# Model of pets",
        "It predicts to which of 2 classes an image belongs: cat, dog. It has 1,234 parameters.",
        "from trial 4 of study pets, objective pets.py:Pets; it is the model of the first of 2 seeds.",
        "| metric | this model | 95 % over 8 test images | mean of 2 seeds | 95 % over seeds |",
        "| test accuracy | 0.8750 | 0.5300 to 0.9700 | 0.8125 ± 0.0884 | 0.0184 to 1.0000 |",
        "Each class, by the models of 2 seeds together:",
        "| class | test images | precision | recall | F1 |",
        "| cat | 3 | 1.0000 | 0.6667 | 0.8000 |",
        "Source: photos: 88 images, digest 17ab.",
        "| cat | 80 | 3 |",
        "| all images | 88 | 8 |",
        "- It knows only the classes above: images of anything else get one of them too",
        "- The test set has only 8 images, so the test accuracy on many more may be anywhere from 0.5300 to 0.9700.",
        "- Fewer than 30 test images, so their scores are rough: cat (3), dog (5).",
        "- Training images are uneven: 80 of cat, 8 of dog.",
        "- Retrains of its study have opened the test set 2 times",
        "- Images are scaled to 29×32 pixels: smaller details are lost, and their edges are cut off",
        "Plain Keras loads it; this package is not needed. It takes uint8 of (n, 29, 32, 3), raw pixels from 0 to 255.",
        "image = ImageOps.fit(image, (32, 29), Image.Resampling.BICUBIC)",
        "hpo predict --model . new.jpg folder/",
        "| na\\|me | \\`odd\\` |",
    ):
        assert line in text, line
    assert "left out" not in text


LABELS = {
    **{key: CLASSES[key] for key in ("classes", "input", "n_test", "n_train", "examples")},
    "task": "labels",
    "test_auc": 0.9,
    "per_label": [
        {
            "label": "cat",
            "positives": 3,
            "precision": 0.5,
            "recall": 1.0,
            "f1": 0.66,
            "auc": 0.9,
            "average_precision": None,
        }
    ],
}
REGRESSION = {
    "task": "regression",
    "classes": ["price", "area"],
    "test_mae": 12.5,
    "n_test": 2000,
    "n_train": 8000,
    "input": {"shape": {"image": [8, 8, 1], "age": []}, "dtype": {"image": "float32", "age": "int64"}},
    "examples": {"train": {"price": {"min": -1.0, "mean": 2.5, "max": 90000.0}}, "test": {}},
}


@pytest.mark.parametrize(
    ("recorded", "lines"),
    [
        (
            LABELS,
            [
                "It predicts which of 2 labels an image has: cat, dog.",
                "| label | test images with it | precision | recall | F1 | AUC | average precision |",
                "| cat | 3 | 0.5000 | 1.0000 | 0.6600 | 0.9000 | - |",
                "It returns a probability for each of 2 labels",
                "- It was trained from one seed alone",
            ],
        ),
        (
            REGRESSION,
            [
                "It predicts 2 numbers for an image: price, area.",
                "| training target | lowest | mean | highest |",
                "| price | -1.0000 | 2.5000 | 90000 |",
                "It takes arrays by name: image float32 of (n, 8, 8, 1), age int64 of (n,).",
                "It returns 2 numbers: price, area.",
            ],
        ),
        (
            {"test_f1": 0.5, "load_model": ["import nets", "model = nets.load()"]},
            ["nets.load()", "code of your own"],
        ),
        ({}, ["The final runs recorded no test figures.", "keras.saving.load_model('model.keras')"]),
    ],
)
def test_card_speaks_the_language_of_the_task(
    tmp_path: Path, recorded: Mapping[str, Any], lines: list[str]
) -> None:
    text = card(tmp_path, recorded)
    assert [line for line in lines if line not in text] == []
    assert "left out" not in text
    assert "ImageOps" not in text or "image_fit" not in str(recorded)


@pytest.mark.parametrize(
    "odd", [{"examples": 5}, {"input": "image"}, {"classes": 10}, {"n_test": "many"}, {"per_label": 3}]
)
def test_records_of_another_form_never_cost_the_card(tmp_path: Path, odd: dict[str, Any]) -> None:
    text = card(tmp_path, {**CLASSES, **odd})
    assert text.startswith("# Model of pets")
    assert "keras.saving.load_model" in text
