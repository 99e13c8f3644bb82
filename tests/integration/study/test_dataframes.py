"""`hpo.load_study(...).results()`: data frames for notebooks."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import hpo
from hpo.dashboard.studies import read_confusions
from hpo.errors import UnknownStudyError
from storage.engine import Database
from tests.integration.rows import StudyRows, add_retrain


def test_import_loads_no_heavy_package() -> None:
    heavy = ("pandas", "numpy", "sqlalchemy", "optuna", "keras", "click")
    program = f"import hpo, sys; hpo.load_study; print([name for name in {heavy!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_results_have_one_frame_per_table(database: Database, storage_url: str) -> None:
    rows = StudyRows(database)
    reservation_id = rows.trial("complete", 0.9, completed=2)
    attempt = rows.attempt(reservation_id, rows.agent(), ended=10.0, completed=2, outcome="complete")
    rows.epoch(reservation_id, attempt, 1, {"val_accuracy": 0.8})
    rows.epoch(reservation_id, attempt, 2, {"val_accuracy": 0.9, "loss": "nan"})
    retrain_id = add_retrain(rows, [0.8, 0.9])
    found = hpo.load_study("demo", storage=storage_url).results()

    assert found.trials.loc[0, ["state", "value", "param_learning_rate"]].tolist() == ["complete", 0.9, 0.01]
    assert found.epochs["val_accuracy"].tolist() == [0.8, 0.9]
    assert found.epochs.loc[(0, 2)].isna()["loss"]
    assert found.attempts.loc[attempt, "seconds"] == pytest.approx(50, abs=1)
    place = ["host", "slot", "device", "process"]
    assert found.attempts.loc[attempt, place].tolist() == ["here", 0, "cpu:0", "boot:42:1"]
    assert isinstance(found.attempts.loc[attempt, "versions"], dict)
    assert found.retrains.loc[(retrain_id, 1_000_001), "test_accuracy"] == 0.9
    assert found.retrains["trial"].tolist() == [0, 0]
    assert found.retrains["test_opened_at"].notna().all()
    assert found.retrains.groupby("retrain_id")["test_accuracy"].mean().tolist() == [pytest.approx(0.85)]
    assert found.retrain_epochs["accuracy"].tolist() == [0.5, 1.0, 0.5, 1.0]
    assert str(found.trials["created_at"].dt.tz) == "UTC"
    # Retrained from a file: trial 0 of another study.
    other = add_retrain(rows, [0.7], config={"study": "elsewhere"})
    assert hpo.load_study("demo", storage=storage_url).results().retrains.loc[other, "trial"].isna().all()
    with database.engine.connect() as connection:
        (own,) = read_confusions(connection, rows.study_id).values()
    assert len(own["matrices"]) == 2


def test_study_without_trials_has_the_same_columns(database: Database, storage_url: str) -> None:
    StudyRows(database)
    found = hpo.load_study("demo", storage=storage_url).results()
    assert {"state", "value", "seconds"} <= set(found.trials.columns)
    assert found.epochs.empty
    assert found.epochs.index.names == ["number", "epoch"]


def test_unknown_study_is_an_error(storage_url: str) -> None:
    with pytest.raises(UnknownStudyError, match="no study 'none'"):
        hpo.load_study("none", storage=storage_url)


def test_documented_example_runs(
    database: Database, storage_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (Path(__file__).parents[3] / "docs" / "how-to" / "notebook.md").read_text(encoding="utf-8")
    *_, example = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    rows = StudyRows(database, "mnist-cnn")
    for number in range(2):
        reservation_id = rows.trial("complete", 0.9 - number, completed=1)
        rows.epoch(reservation_id, rows.attempt(reservation_id, rows.agent()), 1, {"val_accuracy": 0.8})
    add_retrain(rows, [0.8, 0.9])
    monkeypatch.setenv("HPO_STORAGE", storage_url)
    monkeypatch.setenv("MPLBACKEND", "agg")
    from matplotlib import pyplot

    scope: dict[str, object] = {}
    shown = []
    for statement in ast.parse(example).body:
        mode = "eval" if isinstance(statement, ast.Expr) else "exec"
        shown.append(eval(compile(ast.unparse(statement), "notebook.md", mode), scope))
    *_, best, curves, tested = shown
    assert best["value"].tolist() == [0.9, pytest.approx(-0.1)]
    assert len(curves.get_lines()) == 2
    pyplot.close(curves.figure)
    assert tested["mean"].tolist() == [pytest.approx(0.85)]
