"""`hpo report` of retrains."""

from __future__ import annotations

import json
import math

import pytest

from hpo.analysis.common_epoch import compare_trials
from hpo.analysis.statistics import summarize
from hpo.report.findings import seed_noise
from hpo.study.dataframes import frames_of
from hpo.study.history import read_history
from tests.integration.report.made import candidates, files, report_text, trained
from tests.integration.rows import StudyRows, add_retrain

# One worker of the suite imports the libraries that draw charts.
pytestmark = [pytest.mark.usefixtures("complete_documents"), pytest.mark.xdist_group("report")]


@pytest.mark.usefixtures("pictures")
def test_report_of_a_retrained_study(rows: StudyRows) -> None:
    trained(rows, 0.5, 0.7, 0.9, 0.91, 0.92)
    add_retrain(rows, [0.5, 0.6])
    add_retrain(rows, [0.8, 0.9, 0.85])
    rows.set(budget=1)
    found = files(rows)
    markdown = report_text(found)
    assert (
        "**Test accuracy 0.8500 ± 0.0500 (95 % interval 0.7258 to 0.9742 over 3 seeds, 0.6396 to 0.9476 over 20 test"
        " images): trial 0, retrained.**" in markdown
    )
    assert "Retrains of this study evaluated the test set 2 times" in markdown
    assert "shows the latest of the configuration that the search chose, not the best" in markdown
    # 24 and 27 of 30 predictions for the classes are correct; each class has 10 images.
    assert "| cat | 0.8889 | 0.8000 | 0.8421 | 10 |" in markdown
    assert "| cat | dog | 2.0 | 20.0 % |" in markdown
    assert "| figure | mean | standard deviation | 95 % over 3 seeds | 95 % over 20 test images |" in markdown
    assert "| test accuracy | 0.8500 | 0.0500 | 0.7258 to 0.9742 | 0.6396 to 0.9476 |" in markdown
    assert "The search is" not in markdown
    assert {"pictures/confusion.png", "pictures/training.png"} <= found.keys()
    summary = json.loads(found["report.json"])
    assert summary["retrained"]["parameters"] == 1234
    assert len(summary["test_openings"]) == 2
    assert summary["state"] == []


@pytest.mark.parametrize(("code", "noted"), [("c0de2", True), ("c0de1", False), (None, False)])
def test_report_of_a_retrain_with_other_code_notes_it(rows: StudyRows, code: str | None, noted: bool) -> None:
    trained(rows, 0.5, 0.7, versions={"objective": "c0de1"})
    add_retrain(rows, [0.9], config={"trial": 0, "study": "demo"}, objective_code=code)
    note = (
        "The final runs were trained with another version of the objective's code (c0de2) than trial 0 (c0de1), so they"
        " may not repeat its result."
    )
    assert (note in report_text(files(rows))) == noted


def test_unfinished_retrain_that_opened_the_test_set_is_reported(rows: StudyRows) -> None:
    trained(rows, 0.8, 0.9)
    assert "The test set has not been used yet" in report_text(files(rows))
    add_retrain(rows, [0.9], finished=False)
    markdown = report_text(files(rows))
    assert "Unfinished retrains have evaluated the test set once." in markdown
    assert "has not been used" not in markdown


def test_retrain_with_another_setup_than_the_search_is_reported(rows: StudyRows) -> None:
    trained(rows, 0.8, 0.9)
    data = read_history(rows.database, rows.name).study.spec_json["data"]
    add_retrain(rows, [0.9], config={"epochs": 5, "data": data})
    assert "trials had" not in report_text(files(rows))
    add_retrain(rows, [0.9], config={"epochs": 30, "data": {**data, "limit": 500}})
    assert (
        "Retrained with 30 epochs of 500 training examples; trials had 5 epochs of all training data."
        in report_text(files(rows))
    )


def test_seed_noise_comes_from_candidates_with_the_setup_of_the_search(rows: StudyRows) -> None:
    for value in (0.8, 0.9):
        trained(rows, *[value] * 5)
    selection = candidates(({"learning_rate": 0.01}, [0.80, 0.81, 0.82], True))
    history = read_history(rows.database, rows.name)
    add_retrain(
        rows, [0.9], selection=selection, config={"epochs": 1, "data": history.study.spec_json["data"]}
    )
    found = read_history(rows.database, rows.name)
    assert seed_noise(found, compare_trials(found)) is None
    add_retrain(
        rows, [0.9], selection=selection, config={"epochs": 5, "data": history.study.spec_json["data"]}
    )
    found = read_history(rows.database, rows.name)
    assert seed_noise(found, compare_trials(found)) == pytest.approx(0.01)


@pytest.mark.usefixtures("pictures")
def test_figure_that_is_not_finite_is_shown_as_nan(rows: StudyRows) -> None:
    trained(rows, 0.8, 0.9)
    add_retrain(rows, [math.nan, 0.8])
    assert "| test accuracy | nan | - | - | - |" in report_text(files(rows))


def test_configuration_of_another_study_is_reproduced_from_its_file(rows: StudyRows) -> None:
    trained(rows, 0.8, 0.9)
    add_retrain(rows, [0.9], config={"trial": 0, "study": "elsewhere"})
    markdown = report_text(files(rows))
    assert "hpo retrain --study demo --seeds 1 --epochs 2 --config best_config.yaml" in markdown
    add_retrain(rows, [0.9], config={"trial": 7, "study": "demo"})
    assert "hpo retrain --study demo --seeds 1 --epochs 2 --trial 7" in report_text(files(rows))


@pytest.mark.usefixtures("pictures")
def test_retrain_with_records_of_any_form_is_reported(rows: StudyRows) -> None:
    trained(rows, 0.9)
    run = {
        "seconds": "slow",
        "classes": 10,
        "confusion": [[1], [2, 3]],
        "calibration": 0.03,
        "wrong": 3,
        "n_test": "many",
        "parameters": [1],
        "test_seed": 1,
        "test_training time": 2,
    }
    summary = {name: summarize([1.0]).to_json() for name in ("test_seed", "test_training time")}
    add_retrain(
        rows,
        [0.5],
        runs=[{"seed": 1, **run}],
        summary=summary,
        detail={"history": [], "wrong_images": [5, "x"]},
    )
    found = files(rows)
    table = "| seed | 1 |\n|---|---:|\n| test_seed | 1.0000 |\n| test_training time | 2.0000 |\n| training time | - |"
    assert table in report_text(found)
    assert len(frames_of(read_history(rows.database, rows.name)).retrains) == 1
