"""A real model: searched, retrained, exported, and loaded without this project."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np

from objectives.data import datasets
from tests.acceptance.service import Service

PREDICT = """
import json, sys
sys.modules["hpo"] = sys.modules["objectives"] = sys.modules["storage"] = None
import keras, numpy as np
model = keras.models.load_model(sys.argv[1])
data = np.load(sys.argv[2])
predicted = np.argmax(model.predict(data["images"], verbose=0), axis=1)
print(json.dumps({"accuracy": float(np.mean(predicted == data["labels"])), "dtype": str(data["images"].dtype)}))
"""


def test_digits_are_searched_retrained_reported_and_exported(service: Service) -> None:
    searched = ("--trials", 3, "--epochs", 2, "--limit", 600)
    launched = service.hpo("launch", "--study", "digits-cnn", "--workers", 2, *searched, timeout=120)
    assert (launched.code, launched.err) == (0, "")
    assert len(launched.trial_lines) == 3
    service.check_records(3, epochs=2, study="digits-cnn")
    stored = service.rows("SELECT metrics FROM hpo.epochs")
    wanted = {"loss", "accuracy", "val_loss", "val_accuracy", "learning_rate", "images_per_second"}
    assert all(wanted <= row.metrics.keys() for row in stored)

    final = ("--seeds", 2, "--limit", "all")
    retrained = service.hpo("retrain", "--study", "digits-cnn", "--workers", 2, *final, timeout=120)
    assert (retrained.code, retrained.err) == (0, "")
    results = service.folder / "results" / "digits-cnn"
    metrics = json.loads((results / "metrics.json").read_text())
    assert metrics["summary"]["test_accuracy"]["n"] == 2
    everything = datasets.load("digits", None)
    for run in metrics["runs"]:
        assert run["n_train"] == len(everything.x_train)
        assert (
            sum(one["images"] for one in run["calibration"]["bins"])
            == run["n_test"]
            == sum(map(sum, run["confusion"]))
        )
        assert len(run["wrong"]) <= 24
        assert all(one["true"] != one["predicted"] for one in run["wrong"])
        assert "wrong_images" not in run
    assert [score["name"] for score in metrics["per_class"]] == list("0123456789")

    reported = service.hpo("report", "--study", "digits-cnn")
    assert (reported.code, reported.err) == (0, "")
    page = (results / "report.html").read_text()
    # Thumbnails of the model's mistakes from the database.
    assert page.count('<img src="data:image/png;base64,') == len(metrics["runs"][0]["wrong"]) > 0
    report = (results / "report.md").read_text()
    assert "Test accuracy" in report
    trial = service.study("digits-cnn").best_trial.number
    assert f"hpo retrain --study digits-cnn --seeds 2 --limit all --trial {trial} --precision " in report
    assert all(
        (results / "pictures" / f"{key}.png").is_file() for key in ("confusion", "calibration", "training")
    )

    # Its trial had a slot of one core, where the machine has two.
    value = service.study("digits-cnn").best_trial.value
    assert _run_script(service).stdout.splitlines()[-1] == f"val_accuracy = {value!r}, as in the trial"

    found = _predict(service, results / "model.keras")
    assert found["dtype"] == "uint8"
    assert found["accuracy"] == metrics["runs"][0]["test_accuracy"]


def test_exported_script_reproduces_the_value_of_its_trial(service: Service) -> None:
    # One slot of all cores, because several threads add up sums in another order than one.
    arguments = ("--workers", 1, "--trials", 1, "--epochs", 3)
    assert service.hpo("launch", "--study", "digits-cnn", *arguments, timeout=120).code == 0
    stored = service.rows("SELECT metrics FROM hpo.epochs ORDER BY epoch")
    trained = _run_script(service)
    printed = [line for line in trained.stdout.splitlines() if line.startswith("epoch ")]
    assert [_named(line, "loss") for line in printed] == [f"{row.metrics['loss']:.4g}" for row in stored]
    value = service.study("digits-cnn").best_trial.value
    assert trained.stdout.splitlines()[-1] == f"val_accuracy = {value!r}, as in the trial"
    assert "trained with" not in trained.stderr


def _run_script(service: Service) -> subprocess.CompletedProcess[str]:
    """Export the study's best trial as a script, and run it."""
    script = service.folder / "train.py"
    exported = service.hpo("export", "--study", "digits-cnn", "--format", "python", "-o", script)
    assert exported.code == 0
    return subprocess.run(
        [sys.executable, str(script)],
        capture_output=True,
        text=True,
        cwd=service.folder,
        timeout=120,
        check=True,
    )


def _named(line: str, name: str) -> str:
    """Return the value of a metric in a printed line of an epoch."""
    return next(part for part in line.split() if part.startswith(f"{name}=")).partition("=")[2]


def _predict(service: Service, model: Path) -> dict:
    """Evaluate the saved model on the test images in a process that cannot import this project."""
    images = datasets.load("digits", None)
    data = service.folder / "test.npz"
    np.savez(data, images=images.x_test, labels=images.y_test)
    predicted = subprocess.run(
        [sys.executable, "-c", PREDICT, str(model), str(data)],
        capture_output=True,
        text=True,
        cwd=service.folder,
        timeout=120,
        check=True,
    )
    return json.loads(predicted.stdout)
