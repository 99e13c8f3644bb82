"""A KerasTuner model builder runs as it is, from launch to report."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from optuna.trial import TrialState

from tests.acceptance.service import Service

FILE = Path(__file__).parents[1] / "builders_for_tests.py"


def launch(*arguments: object) -> list[object]:
    return ["launch", "--study", "s", "--objective", f"{FILE}:Line", "--workers", 1, *arguments]


def test_builder_is_searched_pruned_retrained_exported_and_reported(service: Service) -> None:
    service.hpo(*launch("--trials", 20, "--pruner", "median", "--epochs", 3)).clean()
    trials = service.study().trials
    assert {trial.state for trial in trials} == {TrialState.COMPLETE, TrialState.PRUNED}
    for trial in trials:
        units = {f"deep/units_{layer}" for layer in range(trial.params.get("layers", 0))}
        assert set(trial.params) == {"kind", "slope", "rate"} | units | ({"layers"} if units else set())
        assert set(trial.intermediate_values) <= {1, 2, 3}
    best = json.loads(service.hpo("best", "--study", "s", "--json").clean().out)
    assert (best["value"], best["params"]) == (service.study().best_value, service.study().best_params)

    service.hpo("retrain", "--study", "s", "--seeds", 2).clean()
    results = service.folder / "results" / "s"
    metrics = json.loads((results / "metrics.json").read_text())
    assert metrics["epochs"] == 3
    assert metrics["summary"]["final_val_loss"]["mean"] == pytest.approx(best["value"])
    assert metrics["test_openings"] == 1
    test_loss = (best["params"]["slope"] - 3) ** 2 * 3 / 7
    assert metrics["summary"]["test_loss"]["mean"] == pytest.approx(test_loss)
    service.hpo("report", "--study", "s").clean()
    report = (results / "report.md").read_text()
    assert "| rate |" in report[report.index("Effects of hyperparameters") :]
    assert "--epochs 3" in report
    assert "--direction" not in report

    script = service.folder / "train.py"
    service.hpo("export", "--study", "s", "--format", "python", "--output", script).clean()
    assert service.commands is not None
    assert (
        service.python(service.commands, script).out.splitlines()[-1]
        == f"val_loss = {best['value']}, as in the trial"
    )
    config = service.folder / "best.yaml"
    service.hpo("export", "--study", "s", "--format", "yaml", "--output", config).clean()
    service.hpo("retrain", "--study", "other", "--config", config, "--seeds", 1).clean()
    found = json.loads((service.folder / "results" / "other" / "metrics.json").read_text())
    assert found["summary"]["final_val_loss"]["mean"] == pytest.approx(best["value"])


IMPOSSIBLE: list[tuple[tuple[object, ...], str]] = [
    (("--direction", "maximize"), "the objective declares that it is to minimize val_loss"),
    (("--limit", 3), "--limit does not apply to an objective with an open space"),
]
"""Options that do not fit, and what the refusal says."""


def test_impossible_request_is_refused_in_one_line(service: Service) -> None:
    for options, message in IMPOSSIBLE:
        refused = service.hpo(*launch("--trials", 1, *options))
        assert message in refused.complaint(refused.code)
        assert service.hpo("ls", "--json").clean().out.strip() == "[]"
