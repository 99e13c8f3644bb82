"""An Optuna objective runs as it is, from launch to report."""

from __future__ import annotations

import csv
import io
import json
import signal
from dataclasses import replace
from pathlib import Path

import pytest
from optuna.trial import TrialState

from hpo.export.config_file import read_config
from tests.acceptance.service import Service

FILE = Path(__file__).parents[1] / "functions_for_tests.py"


def launch(function: str, *arguments: object) -> list[object]:
    return ["launch", "--study", "s", "--objective", f"{FILE}:{function}", *arguments]


def test_function_is_searched_retrained_exported_and_reported(service: Service) -> None:
    service.hpo(*launch("objective", "--trials", 24, "--workers", 2)).clean()
    trials = service.study().trials
    assert len(trials) == 24
    assert {trial.state for trial in trials} <= {TrialState.COMPLETE, TrialState.PRUNED}
    for trial in trials:
        layers = trial.params.get("n_layers", 0)
        units = {f"n_units_l{layer}" for layer in range(layers)}
        assert set(trial.params) == {"kind", "lr"} | units | ({"n_layers"} if layers else set())
        assert trial.user_attrs["depth"] == len(trial.params) - 2
        assert min(trial.intermediate_values) == 0
    best = json.loads(service.hpo("best", "--study", "s", "--json").clean().out)
    assert best["value"] == service.study().best_value
    assert best["params"] == service.study().best_params
    rows = list(csv.DictReader(io.StringIO(service.hpo("trials", "--study", "s", "--csv").clean().out)))
    assert [row["lr"] != "" and row["kind"] != "" for row in rows] == [True] * 24
    assert [bool(row["n_layers"]) for row in rows] == [row["kind"] == "deep" for row in rows]

    service.hpo("retrain", "--study", "s", "--seeds", 2).clean()
    results = service.folder / "results" / "s"
    metrics = json.loads((results / "metrics.json").read_text())
    assert metrics["summary"]["final_value"]["mean"] == pytest.approx(best["value"])
    assert metrics["test_openings"] == 0
    service.hpo("report", "--study", "s").clean()
    report = (results / "report.md").read_text()
    effects = report[report.index("Effects of hyperparameters") :]
    assert "| lr |" in effects
    assert "validation images" not in report


def test_package_that_a_function_imports_is_imported_once_for_later_trials(service: Service) -> None:
    service.hpo(*launch("imports", "--trials", 4, "--workers", 1)).clean()
    assert [trial.user_attrs["had"] for trial in service.study().trials] == [False, True, True, True]


def test_exported_script_gives_the_value_of_the_trial(service: Service) -> None:
    service.hpo(*launch("returns_only", "--direction", "maximize", "--trials", 8, "--workers", 2)).clean()
    best = service.study().best_trial
    assert best.value == max(trial.value for trial in service.study().trials if trial.value is not None)
    script = service.folder / "train.py"
    service.hpo("export", "--study", "s", "--format", "python", "--output", script).clean()
    assert service.commands is not None
    shown = service.python(service.commands, script).out
    assert shown.splitlines()[-1] == f"value = {best.value}, as in the trial"
    for form in ("yaml", "json", "toml"):
        config = service.folder / f"best.{form}"
        service.hpo("export", "--study", "s", "--format", form, "--output", config).clean()
    of_yaml, of_json = (
        replace(read_config(service.folder / f"best.{form}"), created=None) for form in ("yaml", "json")
    )
    assert of_yaml == of_json
    # TOML has no null.
    for form in ("yaml", "toml"):
        config = service.folder / f"best.{form}"
        service.hpo("retrain", "--study", "other", "--config", config, "--seeds", 1).clean()
        found = json.loads((service.folder / "results" / "other" / "metrics.json").read_text())
        assert found["summary"]["final_value"]["mean"] == best.value


def test_interrupted_trial_begins_again_with_its_values(service: Service) -> None:
    service.set(TEST_EPOCH_SECONDS=0.05, TEST_STEPS=400)
    agent = service.start(*launch("objective", "--trials", 2, "--workers", 2, "--pruner", "none"))
    service.wait_for_epoch(3, trials=2)
    before = {trial.number: trial.params for trial in service.study().trials}
    agent.send_signal(signal.SIGINT)
    assert agent.wait().code == 130
    killed = service.start("launch", "--study", "s", "--workers", 2)
    service.wait_for(lambda: len(service.trainers()) == 2)
    service.wait_for_epoch(2, trials=2)
    killed.kill()
    service.set(TEST_EPOCH_SECONDS=0, TEST_STEPS=4)
    service.hpo("launch", "--study", "s", "--workers", 2).clean()
    trials = service.study().trials
    assert {trial.number: trial.params for trial in trials} == before
    assert [sorted(trial.intermediate_values) for trial in trials] == [[0, 1, 2, 3]] * 2
    assert service.rows("SELECT * FROM hpo.epochs WHERE epoch > 4") == []


IMPOSSIBLE: list[tuple[str, tuple[object, ...], str]] = [
    ("objective", ("--epochs", 3), "--epochs does not apply to an Optuna objective"),
    (
        "objective",
        ("--pruner", "freeze-thaw"),
        "--pruner freeze-thaw does not apply to an Optuna objective",
    ),
    ("objective", ("--limit", 3), "--limit does not apply to an Optuna objective"),
    ("objective", ("--param", "lr"), "--param lr: write NAME=VALUE"),
    ("objective", ("--param", "lr=9"), "--param lr=9: 9 lies outside 0.0001..0.1"),
    ("missing", (), "has no class or function missing"),
    ("optuna", (), "is neither a subclass of hpo.Objective nor a function of an Optuna trial"),
]
"""Functions and options that do not fit, and what the refusal says."""


def test_impossible_request_is_refused_in_one_line(service: Service) -> None:
    for function, options, message in IMPOSSIBLE:
        refused = service.hpo(*launch(function, "--trials", 1, "--workers", 1, *options))
        assert message in refused.complaint(refused.code)
        assert refused.code in (1, 2)
        assert service.hpo("ls", "--json").clean().out.strip() == "[]"


def test_several_values_end_the_study_with_the_reason(service: Service) -> None:
    ended = service.hpo(*launch("several", "--trials", 5, "--workers", 1))
    assert ended.code == 1
    assert "the objective returned 2 values, and a study here has one" in ended.err.splitlines()[-1]


def test_direction_of_a_study_stays(service: Service) -> None:
    service.hpo(*launch("returns_only", "--trials", 1, "--workers", 1, "--direction", "maximize")).clean()
    other = service.hpo(*launch("returns_only", "--trials", 2, "--workers", 1, "--direction", "minimize"))
    assert "was created with --direction maximize, not minimize" in other.complaint()
    service.hpo("launch", "--study", "s", "--trials", 2, "--workers", 1).clean()
    service.hpo("worker", "--study", "s").clean()
    assert service.study().direction.name == "MAXIMIZE"
