"""`hpo report` of an experiment."""

from __future__ import annotations

import csv
import io
import json

import numpy as np
import pytest

from hpo.analysis.ablation.effects import Ablation
from hpo.report.ablation.sections import summary_lines
from hpo.report.ablation.text import Wording
from hpo.search.starting.design import Settings
from hpo.study.history import read_history
from storage.engine import Database
from tests.integration.report.made import files, report_text, trained
from tests.integration.rows import StudyRows
from tests.specs import spec
from tests.unit.analysis.ablation.simulated import SPACE, design_of, noisy

pytestmark = [pytest.mark.usefixtures("complete_documents"), pytest.mark.xdist_group("report")]


@pytest.fixture
def experiment(database: Database) -> StudyRows:
    """An experiment in which sgd is worse, a high learning rate diverges, and one run is still missing."""
    design = design_of(Settings(pairs=(("optimizer", "learning_rate"),)))
    options = {"metric": "val_accuracy", "direction": "maximize", "epochs": 1}
    rows = StudyRows(database, spec=spec(SPACE, design=design, **options), budget=design.size)
    effects = [-0.05 * (point.params["optimizer"] == "sgd") for point in design.points]
    values = noisy(effects, 3, np.random.default_rng(0), 0.0005)
    for place, seed in [(place, seed) for seed in range(3) for place in range(len(design.points))][:-1]:
        params = design.points[place].params
        row = trained(rows, float(values[place, seed]), params=params)
        rows.change_trial(row, seed=design.seeds[seed])
        if params["learning_rate"] == 0.1 and params["optimizer"] == "adam":
            rows.change_trial(row, outcome="diverged", value=None)
    return rows


def test_report_of_an_experiment_begins_with_the_verdict_on_each_parameter(
    database: Database, experiment: StudyRows
) -> None:
    found = files(experiment)
    text = report_text(found)
    assert "Around the configuration of trial 7 of study s, which reaches val_accuracy 0.9" in text
    assert "1 of 42 runs have not finished, so these results may change." in text
    assert "| optimizer | adam | worth tuning | sgd is worse than adam by" in text
    assert "| learning_rate | 0.01 | harmful above 0.01 |" in text
    assert "3 of 3 runs with 0.1 ended without a value" in text
    assert "| optimizer, learning_rate |" in text
    assert "hpo ablate --study s --as demo --trial 7 --seeds 3 --values 5" in text
    assert {"pictures/ablation.png", "pictures/ablation-pairs.png", "trials.csv"} <= {*found}
    # Nothing of a search, whose best trial would be the luckiest.
    assert not {"importance.json", "report.json"} & {*found}
    assert "optimistic" not in text
    numbers = json.loads(found["ablation.json"])
    verdicts = {one["parameter"]: one["verdict"] for one in numbers["parameters"]}
    assert verdicts["optimizer"] == "worth tuning"
    (sgd,) = (one for one in numbers["parameters"][0]["values"] if one["value"] == "sgd")
    assert sgd["interval95"][0] < -0.05 < sgd["interval95"][1]
    table = list(csv.DictReader(io.StringIO(found["ablation.csv"].decode())))
    assert [row["class"] for row in table].count("failed") == 1
    assert {"changed", "optimizer", "n", "effect", "low", "high"} <= {*table[0]}
    lines = summary_lines(Wording(Ablation.of(read_history(database, experiment.name))))
    assert any(line.startswith("optimizer ") and "worth tuning: sgd is worse" in line for line in lines)


def test_report_of_an_experiment_without_a_run(database: Database) -> None:
    design = design_of(Settings(recipe=True, pairs=()), recipe={"recipe.label_smoothing": "0.1"})
    options = {"metric": "val_accuracy", "direction": "maximize", "epochs": 1}
    rows = StudyRows(database, spec=spec(SPACE, design=design, **options), budget=design.size)
    text = report_text(files(rows))
    assert f"0 of {design.size} runs have finished" in text
    assert "| recipe.label_smoothing | 0.1 | not resolved with 3 seeds | too few runs have ended |" in text


@pytest.mark.usefixtures("pictures")
def test_pictures_of_an_experiment_are_drawn(experiment: StudyRows) -> None:
    found = files(experiment)
    assert found["pictures/ablation.png"].startswith(b"\x89PNG")
    assert found["pictures/ablation-pairs.png"].startswith(b"\x89PNG")
