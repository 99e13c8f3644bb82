"""A real model: searched, retrained, exported, loaded without this project, and interrupted without a trace."""

from __future__ import annotations

import csv
import json
import signal
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from PIL import Image
from sqlalchemy import Row

from objectives.data import datasets
from tests.acceptance.fork_server import ForkServer
from tests.acceptance.hpo_commands import HpoCommands
from tests.acceptance.service import Service

TAGGED = Path(__file__).parents[1] / "tagged_for_tests.py"
FIT = Path(__file__).parents[1] / "fit_for_tests.py"
DIGITS = Path(__file__).parents[1] / "digits_for_tests.py"
EPOCHS = 9
PARAMS = ("batch_size=32", "optimizer=adam", "learning_rate=0.004", "dropout=0.3", "weight_decay=0.0001")
TIMINGS = {"images_per_second"}

PREDICT = """
import json, sys
sys.modules["hpo"] = sys.modules["objectives"] = sys.modules["storage"] = None
import keras, numpy as np
model = keras.models.load_model(sys.argv[1])
data = np.load(sys.argv[2])
predicted = np.argmax(model.predict(data["images"], verbose=0), axis=1)
print(json.dumps({"accuracy": float(np.mean(predicted == data["labels"])), "dtype": str(data["images"].dtype)}))
"""


WITH_HISTORY = """
import json, runpy, sys
from objectives.local_run import LocalRun
runs, begin = [], LocalRun.__post_init__
LocalRun.__post_init__ = lambda run: begin(run) or runs.append(run)
runpy.run_path(sys.argv[1], run_name="__main__")
print(json.dumps(runs[0].history))
"""


def test_digits_are_searched_retrained_reported_and_exported(
    service: Service, commands_with_keras: HpoCommands, keras_commands: ForkServer
) -> None:
    """The template of the search imports Keras itself, those of later commands find it imported."""
    searched = ("--trials", 2, "--epochs", 2, "--limit", 600)
    launched = service.hpo("launch", "--study", "digits-cnn", "--workers", 2, *searched, timeout=120).clean()
    assert len(launched.trial_lines) == 2
    service.check_records(2, epochs=2, study="digits-cnn")
    stored = service.rows("SELECT metrics FROM hpo.epochs")
    wanted = {"loss", "accuracy", "val_loss", "val_accuracy", "learning_rate", "images_per_second"}
    assert all(wanted <= row.metrics.keys() for row in stored)

    service.commands = commands_with_keras
    final = ("--seeds", 2, "--limit", "all")
    service.hpo("retrain", "--study", "digits-cnn", "--workers", 1, *final, timeout=120).clean()
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

    service.hpo("report", "--study", "digits-cnn").clean()
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
    printed = service.python(keras_commands, _export_script(service, "digits-cnn")).out
    assert printed.splitlines()[-1] == f"val_accuracy = {value!r}, as in the trial"

    images = datasets.load("digits", None)
    np.savez(service.folder / "test.npz", images=images.x_test, labels=images.y_test)
    predict = ("-c", PREDICT, results / "model.keras", service.folder / "test.npz")
    found = json.loads(service.python(keras_commands, *predict).out)
    assert found["dtype"] == "uint8"
    assert found["accuracy"] == metrics["runs"][0]["test_accuracy"]

    np.save(service.folder / "x.npy", images.x_test)
    Image.fromarray(images.x_test[7, :, :, 0]).save(service.folder / "seven.png")
    predict = ("-m", "hpo.cli", "predict", "--study", "digits-cnn", "x.npy", "seven.png", "-o", "digits.csv")
    printed = service.python(keras_commands, *predict).out
    assert printed == f"wrote digits.csv: {len(images.x_test) + 1:,} predictions\n"
    with (service.folder / "digits.csv").open(newline="") as file:
        *rows, of_file = csv.DictReader(file)
    right = [row["class"] == str(label) for row, label in zip(rows, images.y_test, strict=True)]
    assert np.mean(right) == metrics["runs"][0]["test_accuracy"]
    # The same pixels.
    assert of_file["path"] == "seven.png"
    assert of_file["class"] == rows[7]["class"]
    assert float(of_file["probability"]) == pytest.approx(float(rows[7]["probability"]), abs=1e-5)


def test_trial_interrupted_twice_equals_an_uninterrupted_run_of_its_script(
    keras_service: Service, keras_commands: ForkServer
) -> None:
    """It is killed, and gets a signal; the slot has all cores, because threads add up sums in another order."""
    service = keras_service
    fixed = [argument for param in PARAMS for argument in ("--param", param)]
    size = ("--trials", 1, "--workers", 1, "--epochs", EPOCHS, "--pruner", "none", "--seed", 3)
    launch = ("launch", "--study", "s", "--objective", f"{DIGITS}:HeldDigits", *size, *fixed)
    service.set(TEST_HOLD="3 6")
    agent = service.start(*launch)
    service.wait_for((service.folder / "held-3").exists, timeout=90)
    (trainer,) = service.trainers()
    psutil.Process(trainer).kill()
    service.wait_for((service.folder / "held-6").exists, timeout=90)
    agent.send_signal(signal.SIGTERM)
    assert agent.wait().code == 130
    service.hpo(*launch, timeout=120).clean()
    attempts = [(one.outcome, one.resumed_from) for one in _attempts(service)]
    assert attempts == [("lost", 0), ("released", 2), ("complete", 6)]
    stored = _metrics(service)
    assert len(stored) == EPOCHS
    assert {"loss", "accuracy", "val_loss", "val_accuracy"} <= stored[0].keys()

    trained = service.python(keras_commands, "-c", WITH_HISTORY, _export_script(service, "s"))
    *lines, end, history = trained.out.splitlines()
    assert [{name: epoch[name] for name in epoch.keys() - TIMINGS} for epoch in json.loads(history)] == stored
    printed = [_named(line, "loss") for line in lines if line.startswith("epoch ")]
    assert printed == [f"{epoch['loss']:.4g}" for epoch in stored]
    value = service.study("s").best_trial.value
    assert end == f"val_accuracy = {value!r}, as in the trial"
    assert "trained with" not in trained.err


def test_fit_killed_in_an_epoch_ends_as_an_uninterrupted_one(
    keras_service: Service, keras_commands: ForkServer
) -> None:
    """First its trainer is killed, then its agent; the counts of its callbacks are among the metrics."""
    service = keras_service
    service.set(TEST_HOLD="4 6")
    size = ("--trials", 1, "--workers", 1, "--pruner", "none", "--seed", 1)
    agent = service.start("launch", "--study", "s", "--objective", f"{FIT}:Noisy", *size)
    service.wait_for((service.folder / "held-4").exists, timeout=90)
    (trainer,) = service.trainers()
    psutil.Process(trainer).kill()
    service.wait_for((service.folder / "held-6").exists, timeout=90)
    agent.kill()
    service.hpo("launch", "--study", "s").clean()
    attempts = [(one.outcome, one.resumed_from) for one in _attempts(service)]
    assert attempts == [("lost", 0), ("lost", 3), ("complete", 5)]

    (trial,) = service.rows("SELECT seed, params FROM hpo.trials")
    alone = service.python(keras_commands, FIT, trial.seed, json.dumps(trial.params))
    expected = json.loads(alone.out)
    assert _metrics(service) == expected
    assert expected[4]["patience"] > 0, "interrupted while it counted"
    assert (expected[-1]["patience"], len(expected) < 30) == (6.0, True)
    assert expected[-1]["learning_rate"] < expected[0]["learning_rate"]


def test_folds_of_several_inputs_and_labels_end_under_kills_as_undisturbed(
    keras_service: Service, keras_commands: ForkServer
) -> None:
    """First every process is killed, then a trainer, each between two folds of an epoch."""
    service = keras_service
    service.set(TEST_HOLD="5 8")
    size = ("--trials", 1, "--workers", 1, "--pruner", "none", "--seed", 1, "--folds", 3)
    agent = service.start("launch", "--study", "s", "--objective", f"{TAGGED}:Tagged", *size)
    service.wait_for((service.folder / "held-5").exists, timeout=90)
    for process in service.processes():
        with suppress(psutil.Error):
            process.kill()
    agent.kill()
    agent = service.start("launch", "--study", "s")
    service.wait_for((service.folder / "held-8").exists, timeout=90)
    (trainer,) = service.trainers()
    psutil.Process(trainer).kill()
    agent.wait().clean()
    attempts = [(one.outcome, one.resumed_from) for one in _attempts(service)]
    assert attempts == [("lost", 0), ("lost", 1), ("complete", 3)]

    (trial,) = service.rows("SELECT seed, params FROM hpo.trials")
    alone = service.python(keras_commands, TAGGED, trial.seed, json.dumps(trial.params))
    expected = [{name: epoch[name] for name in epoch.keys() - TIMINGS} for epoch in json.loads(alone.out)]
    assert _metrics(service) == expected
    assert {"val_auc", "val_error_deviation"} <= expected[0].keys()


def _metrics(service: Service) -> list[dict[str, float]]:
    """Return the metrics of each epoch of the only trial, without its speed."""
    rows = service.rows("SELECT metrics FROM hpo.epochs ORDER BY epoch")
    return [{name: row.metrics[name] for name in row.metrics.keys() - TIMINGS} for row in rows]


def _attempts(service: Service) -> list[Row[Any]]:
    """Return the attempts of the only trial that a trainer has begun."""
    query = "SELECT pid, outcome, resumed_from FROM hpo.attempts WHERE pid IS NOT NULL ORDER BY attempt_id"
    return service.rows(query)


def _export_script(service: Service, study: str) -> Path:
    """Export the study's best trial as a script."""
    script = service.folder / "train.py"
    assert service.hpo("export", "--study", study, "--format", "python", "-o", script).code == 0
    return script


def _named(line: str, name: str) -> str:
    """Return the value of a metric in a printed line of an epoch."""
    return next(part for part in line.split() if part.startswith(f"{name}=")).partition("=")[2]
