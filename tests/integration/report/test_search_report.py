"""`hpo report` of searches in any state, with values and names of any kind."""

from __future__ import annotations

import csv
import io
import json
import math
import re

import pytest
from optuna.distributions import FloatDistribution

from hpo.analysis.statistics import summarize
from hpo.devices.provenance import DATA
from hpo.document.parts import LEFT_OUT
from hpo.export.best_config import build_config
from hpo.report.search_sections import best_so_far
from hpo.report.study_report import report_files
from hpo.search.spec import space_to_json
from hpo.study.dataframes import frames_of
from hpo.study.history import read_history
from hpo.study.monitoring.status import study_status
from hpo.study.results.best_trials import best_trial
from objectives.spaces.choices import categorical
from storage.engine import Database
from tests.integration.report.made import files, report_text, trained
from tests.integration.rows import StudyRows, add_retrain

# One worker of the suite imports the libraries that draw charts.
pytestmark = [pytest.mark.usefixtures("complete_documents"), pytest.mark.xdist_group("report")]


def test_report_of_a_study_without_trials(rows: StudyRows) -> None:
    found = files(rows)
    markdown = report_text(found)
    assert "No trial has completed yet" in markdown
    assert "There is no complete trial to retrain" in markdown
    assert "0 of 10 trials have finished" in markdown
    assert not [name for name in found if name.endswith(".png")]
    assert json.loads(found["report.json"])["best_trial"] is None
    # A page without charts does not contain Plotly.
    assert len(found["report.html"]) < 50_000


def test_study_without_a_test_set_is_not_told_to_retrain(database: Database, rows: StudyRows) -> None:
    data = f"mine: 36 training and 4 validation rows, without a test set, digest {'0' * 12}"
    trained(rows, 0.5, versions={DATA: "mine: 36 training rows, digest 1"})
    assert "hpo retrain --study demo" in report_text(files(rows))
    assert best_trial(database, rows.name).has_test_set
    trained(rows, 0.6, versions={DATA: data})
    text = report_text(files(rows))
    assert "hpo retrain --study" not in text
    assert "hpo retrain needs a test set, and the data have none." in text
    assert "The data have no test set for an unbiased estimate." in text
    assert not study_status(database, rows.name).has_test_set
    assert not best_trial(database, rows.name).has_test_set


def test_best_value_so_far_is_drawn_in_steps(database: Database, rows: StudyRows) -> None:
    for value in (0.5, 0.4, 0.7):
        trained(rows, value)
    trained(rows, 0.1, outcome="pruned")
    best = best_so_far(read_history(database, rows.name))
    assert [(point.x, point.y) for point in best] == [(0, 0.5), (1, 0.5), (2, 0.5), (2, 0.7), (3, 0.7)]


def test_report_lists_the_trials_of_each_version_of_the_code(rows: StudyRows) -> None:
    resumed = trained(rows, 0.5, 0.7, versions={"objective": "c0de1"})
    trained(rows, 0.6, versions={"objective": "c0de1"})
    assert "version of the code" not in report_text(files(rows))
    trained(rows, 0.8, versions={"objective": "c0de2"})
    rows.attempt(resumed, rows.agent(versions={"objective": "c0de2"}), completed=1)
    markdown = report_text(files(rows))
    assert "The objective's code has changed during the study" in markdown
    assert "Trial 0 ran with more than one version." in markdown
    assert "| c0de1 | 0-1 |\n| c0de2 | 0, 2 |" in markdown


@pytest.mark.usefixtures("pictures")
def test_report_of_a_running_study_without_retrain(rows: StudyRows) -> None:
    trained(rows, 0.5, 0.7, 0.9, 0.91, 0.92)
    trained(rows, 0.3, 0.4, outcome="pruned")
    trained(rows, math.nan, outcome="diverged")
    open_trial = rows.trial(completed=1)
    rows.epoch(open_trial, rows.attempt(open_trial, rows.agent()), 1, {"val_accuracy": 0.6})
    rows.trial("bug", error="it broke")
    found = files(rows)
    markdown = report_text(found)
    assert "The search is running: 3 of 10 trials have finished" in markdown
    assert "Best so far: val_accuracy 0.9200 on validation data, trial 0." in markdown
    assert "hpo retrain --study demo gives an unbiased estimate" in markdown
    assert "too few trials" in markdown
    assert "Pruning saved 3 of 12 epochs (25 %)" in markdown
    assert "has no default configuration" in markdown
    for key in ("history", "learning-curves", "slices"):
        assert found[f"pictures/{key}.png"].startswith(b"\x89PNG")
        assert f"pictures/{key}.png" in markdown
    summary = json.loads(found["report.json"])
    assert (summary["best_trial"]["number"], summary["retrained"], summary["test_openings"]) == (0, None, [])
    table = list(csv.DictReader(io.StringIO(found["trials.csv"].decode())))
    assert [row["state"] for row in table] == ["complete", "pruned", "diverged", "running", "bug"]
    epochs = list(csv.DictReader(io.StringIO(found["epochs.csv"].decode())))
    assert [row["val_accuracy"] for row in epochs if row["number"] == "2"] == ["nan"]
    assert json.loads(found["importance.json"])["importance"] is None


def test_pruned_trials_are_compared_at_an_epoch_they_reached(rows: StudyRows) -> None:
    for index in range(6):
        trained(rows, 0.5, 0.5 + index / 100, 0.9, 0.9, 0.9)
    for index in range(6):
        trained(rows, 0.2, 0.2 + index / 100, outcome="pruned")
    found = json.loads(files(rows)["importance.json"])
    assert (found["compared_after_epoch"], found["trials"], found["trials_left_out"]) == (2, 12, 0)
    # Trials that have just started or failed at once do not move the common epoch.
    for outcome in (None, None, "diverged", "diverged"):
        trained(rows, 0.3 if outcome is None else math.nan, outcome=outcome)
    found = json.loads(files(rows)["importance.json"])
    assert (found["compared_after_epoch"], found["trials"], found["trials_left_out"]) == (2, 12, 4)


def test_precision_of_the_search_is_reproduced(rows: StudyRows) -> None:
    rows.agent(versions={"keras": "3.15", "backend": "tensorflow", "precision": "bfloat16"})
    markdown = report_text(files(rows))
    assert "--seed 0 --precision bfloat16 --workers 2" in markdown
    assert "keras 3.15, backend tensorflow, precision bfloat16" in markdown
    rows.agent(versions={"keras": "3.15", "backend": "tensorflow", "precision": "float32"})
    markdown = report_text(files(rows))
    assert "--precision" not in markdown
    assert "| different between agents | precision |" in markdown


def test_best_trial_of_a_minimizing_study(database: Database) -> None:
    rows = StudyRows(database, "low", direction="minimize")
    for value in (0.5, 0.1, 0.9):
        trained(rows, value)
    assert json.loads(files(rows)["report.json"])["best_trial"]["value"] == 0.1


def test_parameters_follow_the_order_of_the_space(rows: StudyRows) -> None:
    # The order of `jsonb` would be: dropout, momentum, learning_rate.
    space = {
        "learning_rate": FloatDistribution(1e-4, 1.0, log=True),
        "momentum": FloatDistribution(0.0, 1.0),
        "dropout": FloatDistribution(0.0, 1.0),
    }
    spec = read_history(rows.database, rows.name).study.spec_json
    rows.set(spec={**spec, "space": space_to_json(space), "objective_space": space_to_json(space)})
    for step in (1, 2, 3):
        trained(rows, 0.9 - step / 10, params=dict.fromkeys(space, step / 10))
    add_retrain(rows, [0.9], params=dict.fromkeys(reversed(space), 0.1))
    found = files(rows)
    names = list(space)
    markdown = report_text(found)
    assert f"| {' | '.join(names)} |" in markdown
    places = [markdown.index(f"| {name} | 0.1 |") for name in names]
    assert places == sorted(places)
    ranges = re.search(r"high \(top\): (.*); val_accuracy", markdown)
    assert ranges is not None
    assert [text.split()[0] for text in ranges[1].split("; ")] == names
    assert found["trials.csv"].decode().splitlines()[0].split(",")[-5:] == [*names, "why", "note"]
    summary = json.loads(found["report.json"])
    assert list(summary["best_trial"]["params"]) == names
    assert list(summary["spec"]["space"]) == names
    assert [effect["parameter"] for effect in json.loads(found["importance.json"])["effects"]] == names
    frame = frames_of(read_history(rows.database, rows.name)).trials
    assert [name for name in frame.columns if name.startswith("param_")] == [
        f"param_{name}" for name in names
    ]
    assert list(build_config(rows.database, rows.name).params) == names


@pytest.mark.usefixtures("pictures")
def test_values_near_the_largest_float_are_reported(rows: StudyRows) -> None:
    for index in range(24):
        trained(rows, 1e308, (1.7e308, -1.7e308, 0.5 + index / 100)[index % 3])
    huge = [1.7e308, -1.7e308]
    add_retrain(rows, [1e308, 1e308], summary={"test_accuracy": summarize(huge).to_json()})
    found = files(rows)
    assert "| 0 | complete | 1.7e+308 |" in report_text(found)
    assert LEFT_OUT not in found["report.html"].decode()
    assert json.loads(found["importance.json"])["trials_left_out"] == 16


def test_metrics_named_like_a_column_are_kept_apart(rows: StudyRows) -> None:
    reservation_id = rows.trial("complete", 0.5, completed=1)
    attempt = rows.attempt(reservation_id, rows.agent(ended=1.0), ended=50.0, completed=1, outcome="complete")
    rows.epoch(reservation_id, attempt, 1, {"val_accuracy": 0.5, "number": 7, "epoch": 8, "seconds": 9})
    history = read_history(rows.database, rows.name)
    frame = frames_of(history).epochs
    assert (frame.index.names, list(frame.index)) == (["number", "epoch"], [(0, 1)])
    assert frame.loc[(0, 1), ["metric_number", "metric_epoch", "metric_seconds"]].tolist() == [7, 8, 9]
    table = list(csv.DictReader(io.StringIO(report_files(history)["epochs.csv"].decode())))
    assert (table[0]["number"], table[0]["epoch"], table[0]["metric_epoch"]) == ("0", "1", "8.0")


@pytest.mark.usefixtures("pictures")
def test_parameters_named_like_a_column_and_choices_of_any_kind_are_reported(rows: StudyRows) -> None:
    space = {"state": categorical([[3, 3], [5, 5]]), "epochs": categorical([1, True, "1"])}
    space |= {"val_accuracy": FloatDistribution(0.0, 1.0), "=a": categorical(["=1+1", "b"])}
    spec = read_history(rows.database, rows.name).study.spec_json
    rows.set(
        spec={
            **spec,
            "space": space_to_json(space | {"epochs": categorical([True, "1"])}),
            "objective_space": space_to_json(space),
        }
    )
    for number in range(20):
        params = {
            "state": [[3, 3], [5, 5]][number % 2],
            "epochs": [True, "1"][number // 2 % 2],
            "val_accuracy": number / 20,
            "=a": ["=1+1", "b"][number // 4 % 2],
        }
        trained(rows, 0.9 - number / 100, params=params)
    found = files(rows)
    table = list(csv.DictReader(io.StringIO(found["trials.csv"].decode())))
    assert (table[1]["state"], table[1]["param_state"], table[1]["epochs"]) == ("complete", "[5, 5]", "1")
    assert (table[0]["param_epochs"], table[0]["param_=a"]) == ("True", "'=1+1")
    markdown = report_text(found)
    assert (
        "| trial | state | val_accuracy | epochs | time | param_state | param_epochs | param_val_accuracy |"
        in markdown
    )
    assert "--param 'epochs=True,\"1\"'" in markdown
    assert {effect["parameter"] for effect in json.loads(found["importance.json"])["effects"]} == set(space)
    assert json.loads(found["importance.json"])["importance"].keys() == set(space)
    frame = frames_of(read_history(rows.database, rows.name)).trials
    assert frame.loc[1, ["state", "param_state"]].tolist() == ["complete", [5, 5]]


def test_front_of_two_objectives_is_a_chart_and_a_table(database: Database, rows: StudyRows) -> None:
    stored = read_history(database, rows.name).study.spec_json
    rows.set(spec={**stored, "also_minimize": "parameters"})
    for value, parameters in ((0.9, 2000.0), (0.8, 3000.0), (0.7, 100.0)):
        rows.measured(value, parameters=parameters)
    found = files(rows)
    text = report_text(found)
    assert LEFT_OUT not in text
    assert "maximize val_accuracy and minimize parameters" in text
    assert "## val_accuracy against parameters" in text
    assert (
        "from val_accuracy 0.9000 with parameters 2000 (trial 0) to val_accuracy 0.7000 with parameters 100"
        in text
    )
    summary = json.loads(found["report.json"])
    assert [(one["number"], one["figures"]) for one in summary["front"]] == [
        (0, {"parameters": 2000.0}),
        (2, {"parameters": 100.0}),
    ]
    trials = list(csv.DictReader(io.StringIO(found["trials.csv"].decode())))
    assert [trial["parameters"] for trial in trials] == ["2000.0", "3000.0", "100.0"]
    assert list(frames_of(read_history(database, rows.name)).trials["figure_parameters"]) == [
        2000.0,
        3000.0,
        100.0,
    ]
