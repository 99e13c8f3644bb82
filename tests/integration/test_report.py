"""`hpo report` from the database to the files, for studies in any state and with any names."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from pathlib import Path

import pytest
from optuna.distributions import FloatDistribution

from hpo.analysis.common_epoch import compare_trials
from hpo.analysis.statistics import summarize
from hpo.cli.main import run
from hpo.document.files import write_document
from hpo.document.html import render_page
from hpo.document.parts import LEFT_OUT
from hpo.export.best_config import build_config
from hpo.report import (
    cost,
    default_comparison,
    mistakes,
    parameter_sections,
    reproduction_section,
    retraining_sections,
    search_sections,
    study_report,
    summary_section,
)
from hpo.report import findings as report_findings
from hpo.report.findings import Findings, seed_noise
from hpo.report.study_report import build_report, report_files
from hpo.search.spec import space_to_json
from hpo.study.dataframes import frames_of
from hpo.study.history import read_history
from objectives.spaces.choices import categorical
from storage.engine import Database
from tests.broken_parts import check_parts, fail
from tests.integration.rows import StudyRows, add_retrain
from tests.specs import spec

# One worker of the suite imports the libraries that draw charts.
pytestmark = [pytest.mark.usefixtures("complete_documents"), pytest.mark.xdist_group("report")]

DEFAULT = {"learning_rate": 0.05}


@pytest.fixture
def rows(database: Database) -> StudyRows:
    return StudyRows(database)


def trained(
    rows: StudyRows,
    *values: float,
    outcome: str | None = "complete",
    versions: dict[str, str] | None = None,
    **more: object,
) -> int:
    """Insert a trial with one epoch for each value."""
    final = values[-1] if outcome in ("complete", "pruned") else None
    reservation_id = rows.trial(outcome, final, completed=len(values), **more)
    attempt = rows.attempt(
        reservation_id,
        rows.agent(ended=1.0, versions=versions),
        ended=50.0,
        completed=len(values),
        outcome=outcome or "released",
    )
    for epoch, value in enumerate(values, start=1):
        shown = value if math.isfinite(value) else "nan"
        rows.epoch(reservation_id, attempt, epoch, {"val_accuracy": shown, "loss": 1 / epoch})
    return reservation_id


def files(rows: StudyRows) -> dict[str, bytes]:
    return report_files(read_history(rows.database, rows.name))


def report_text(found: dict[str, bytes]) -> str:
    """Return the Markdown report without escapes."""
    return re.sub(r"\\([^a-zA-Z0-9\s])", r"\1", found["report.md"].decode())


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


@pytest.mark.parametrize(("code", "said"), [("c0de2", True), ("c0de1", False), (None, False)])
def test_report_of_a_retrain_with_other_code_says_so(rows: StudyRows, code: str | None, said: bool) -> None:
    trained(rows, 0.5, 0.7, versions={"objective": "c0de1"})
    add_retrain(rows, [0.9], config={"trial": 0, "study": "demo"}, objective_code=code)
    note = (
        "The final runs were trained with another version of the objective's code (c0de2) than trial 0 (c0de1), so they"
        " may not repeat its result."
    )
    assert (note in report_text(files(rows))) == said


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
    assert "Best so far: val_accuracy 0.9200 on validation images, trial 0." in markdown
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


def test_report_of_a_retrained_study(rows: StudyRows) -> None:
    trained(rows, 0.5, 0.7, 0.9, 0.91, 0.92)
    add_retrain(rows, [0.5, 0.6])
    add_retrain(rows, [0.8, 0.9, 0.85])
    rows.set(budget=1)
    found = files(rows)
    markdown = report_text(found)
    assert (
        "**Test accuracy 0.8500 ± 0.0500 (95 % interval 0.7258 to 0.9742, n = 3 seeds): trial 0, retrained.**"
        in markdown
    )
    assert "Retrains of this study evaluated the test set 2 times" in markdown
    assert "shows the latest of the configuration that the search chose, not the best" in markdown
    # Three seeds together: 24 and 27 of 30 images of the classes are correct.
    assert "| cat | 0.8889 | 0.8000 | 0.8421 | 30 |" in markdown
    assert "| cat | dog | 6 | 20.0 % |" in markdown
    assert (
        "Over the 20 test images alone, the 95 % interval of the accuracy is 0.6396 to 0.9476 (Wilson)."
        in markdown
    )
    assert "The search is" not in markdown
    assert {"pictures/confusion.png", "pictures/training.png"} <= found.keys()
    summary = json.loads(found["report.json"])
    assert summary["retrained"]["parameters"] == 1234
    assert len(summary["test_openings"]) == 2
    assert summary["state"] == []


def test_result_is_compared_with_the_default_configuration(rows: StudyRows) -> None:
    spec = read_history(rows.database, rows.name).study.spec_json
    default = {"learning_rate": 0.05}
    rows.set(spec={**spec, "first": [default]})
    trained(rows, 0.8, 0.9)
    assert "default configuration was not tried" in report_text(files(rows))
    trained(rows, 0.7, 0.85, params=default)
    markdown = report_text(files(rows))
    assert (
        "In the search, trial 0 reached val_accuracy 0.9000 and the objective's default configuration"
        in markdown
    )
    assert "(trial 1) 0.8500: 5.0 points better on validation images. With one run each" in markdown
    assert "--top K" in markdown
    # Retrains of both are compared over seeds.
    add_retrain(rows, [0.80, 0.81, 0.82], params=default)
    add_retrain(rows, [0.90, 0.91, 0.92])
    markdown = report_text(files(rows))
    assert (
        "test accuracy 0.9100 instead of 0.8100, 10.0 points better (95 % interval 7.7 to 12.3 points"
        in markdown
    )
    assert "exceeds seed noise" in markdown


@pytest.fixture
def with_default(rows: StudyRows) -> StudyRows:
    """Return a study whose default configuration was tried and is not the best."""
    spec = read_history(rows.database, rows.name).study.spec_json
    rows.set(spec={**spec, "first": [DEFAULT]})
    trained(rows, 0.8, 0.9)
    trained(rows, 0.7, 0.85, params=DEFAULT)
    return rows


def test_default_is_compared_even_if_it_was_retrained_last(with_default: StudyRows) -> None:
    add_retrain(with_default, [0.90, 0.91, 0.92])
    add_retrain(with_default, [0.80, 0.81, 0.82], params=DEFAULT)
    assert "test accuracy 0.9100 instead of 0.8100, 10.0 points better" in report_text(files(with_default))


def test_retrain_chosen_by_the_search_takes_precedence(with_default: StudyRows) -> None:
    add_retrain(with_default, [0.90, 0.91, 0.92], source="search")
    add_retrain(with_default, [0.97, 0.98, 0.99], source="file", config={"trial": None})
    add_retrain(with_default, [0.80, 0.81, 0.82], params=DEFAULT, source="trial", config={"trial": 1})
    found = files(with_default)
    markdown = report_text(found)
    assert (
        "**Test accuracy 0.9100 ± 0.0100 (95 % interval 0.8852 to 0.9348, n = 3 seeds): trial 0" in markdown
    )
    assert "| learning_rate | 0.01 | 0.05 |" in markdown
    assert "| a configuration from a file | 2 of all images | test accuracy 0.9800 ± 0.0100" in markdown
    assert "| trial 1 | 2 of all images | test accuracy 0.8100 ± 0.0100" in markdown
    assert (
        "of these 3 retrains, this report shows the latest of the configuration that the search chose, not the best"
        in markdown
    )
    assert json.loads(found["report.json"])["retrained"]["trial"] == 0


def test_last_retrain_counts_if_the_search_chose_none(with_default: StudyRows) -> None:
    add_retrain(with_default, [0.8, 0.9], source="trial", config={"trial": 1})
    add_retrain(with_default, [0.7, 0.8], source="file", config={"trial": None})
    assert "**Test accuracy 0.7500 ± 0.0707" in report_text(files(with_default))


def test_equal_seeds_do_not_estimate_seed_noise(with_default: StudyRows) -> None:
    add_retrain(with_default, [0.8, 0.8, 0.8], params=DEFAULT, config={"trial": 1}, source="trial")
    add_retrain(with_default, [1.0, 1.0, 1.0])
    markdown = report_text(files(with_default))
    assert "20.0 points better; there are too few distinct values to estimate seed noise." in markdown
    assert "within seed noise" not in markdown
    assert "**Test accuracy 1.0000 ± 0.0000 (n = 3 seeds, all equal): trial 0, retrained.**" in markdown
    assert "the 95 % interval of the accuracy is 0.8389 to 1.0000" in markdown


@pytest.mark.parametrize("other", [{"epochs": 3}, {"data": {"limit": 100}}, {"objective": "mine.py:Mine"}])
def test_retrains_with_different_setups_are_not_compared(with_default: StudyRows, other: dict) -> None:
    add_retrain(with_default, [0.50, 0.51, 0.52], params=DEFAULT, config=other)
    add_retrain(with_default, [0.90, 0.91, 0.92])
    markdown = report_text(files(with_default))
    assert "retrained with a different setup" in markdown
    assert "seed noise" not in markdown


def candidates(*given: tuple[dict, list[float], bool]) -> dict:
    return {
        "metric": "val_accuracy",
        "seeds": [1, 2, 3],
        "candidates": [
            {
                "trial": index,
                "params": params,
                "search_value": 0.9,
                "values": values,
                **summarize(values).to_json(),
                "seconds": 1.0,
                "failure": None,
                "chosen": chosen,
            }
            for index, (params, values, chosen) in enumerate(given)
        ],
    }


def test_default_that_led_the_search_loses_over_fresh_seeds(with_default: StudyRows) -> None:
    trained(with_default, 0.9, 0.95, params=DEFAULT)
    selection = candidates(
        (DEFAULT, [0.80, 0.81, 0.82], False), ({"learning_rate": 0.01}, [0.9, 0.91, 0.92], True)
    )
    add_retrain(with_default, [0.90, 0.91, 0.92], selection=selection)
    markdown = report_text(files(with_default))
    assert "0.9100 instead of 0.8100, 10.0 points better" in markdown
    assert "No trial was better" not in markdown


def test_default_that_wins_over_fresh_seeds_is_reported(with_default: StudyRows) -> None:
    selection = candidates(
        ({"learning_rate": 0.01}, [0.80, 0.81, 0.82], False), (DEFAULT, [0.9, 0.91, 0.92], True)
    )
    add_retrain(with_default, [0.90, 0.91, 0.92], params=DEFAULT, selection=selection)
    markdown = report_text(files(with_default))
    assert "is the objective's default configuration, the best of 2 candidates" in markdown
    assert "With one run each" not in markdown


def test_default_that_was_tried_twice_is_not_better_than_itself(with_default: StudyRows) -> None:
    trained(with_default, 0.9, 0.95, params=DEFAULT)
    assert "No trial was better than the objective's default" in report_text(files(with_default))


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
        "Retrained with 30 epochs of 500 images; trials had 5 epochs of all training images."
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


def test_figure_that_is_not_finite_is_shown_as_nan(rows: StudyRows) -> None:
    trained(rows, 0.8, 0.9)
    add_retrain(rows, [math.nan, 0.8])
    assert "| test accuracy | nan | - | - | 2 |" in report_text(files(rows))


def test_configuration_of_another_study_is_reproduced_from_its_file(rows: StudyRows) -> None:
    trained(rows, 0.8, 0.9)
    add_retrain(rows, [0.9], config={"trial": 0, "study": "elsewhere"})
    markdown = report_text(files(rows))
    assert "hpo retrain --study demo --seeds 1 --epochs 2 --config best_config.yaml" in markdown
    add_retrain(rows, [0.9], config={"trial": 7, "study": "demo"})
    assert "hpo retrain --study demo --seeds 1 --epochs 2 --trial 7" in report_text(files(rows))


def test_precision_of_the_search_is_reproduced(rows: StudyRows) -> None:
    rows.agent(versions={"keras": "3.15", "backend": "tensorflow", "precision": "bfloat16"})
    markdown = report_text(files(rows))
    assert "--seed 0 --precision bfloat16 --workers 2" in markdown
    assert "keras 3.15, backend tensorflow, precision bfloat16" in markdown
    rows.agent(versions={"keras": "3.15", "backend": "tensorflow", "precision": "float32"})
    markdown = report_text(files(rows))
    assert "--precision" not in markdown
    assert "| different between agents | precision |" in markdown


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


def test_best_trial_of_a_minimizing_study(database: Database) -> None:
    rows = StudyRows(database, "low", direction="minimize")
    for value in (0.5, 0.1, 0.9):
        trained(rows, value)
    assert json.loads(files(rows)["report.json"])["best_trial"]["value"] == 0.1


def test_names_from_the_user_are_escaped(rows: StudyRows) -> None:
    bad = '</script><b onload="x">$a|b*'
    trained(rows, 0.5, params={"learning_rate": 0.01, bad: bad})
    trained(rows, 0.4, outcome="pruned", params={"learning_rate": 0.02, bad: bad})
    rows.trial("bug", error=bad)
    add_retrain(rows, [0.9], classes=(bad, "dog"))
    found = files(rows)
    page = found["report.html"].decode()
    assert "<b onload" not in page
    # Only our own scripts: one for each panel and two more.
    panels = page.count("data-figure=")
    assert page.count("</script>") == panels + 2
    assert "<b" not in found["report.md"].decode().replace("\\<b", "")


def test_page_loads_no_external_resources(rows: StudyRows) -> None:
    trained(rows, 0.5)
    page = files(rows)["report.html"].decode()
    assert "default-src 'none'" in page
    # The code of Plotly contains the addresses of map servers.
    ours = re.sub(r"<script>.*?</script>", "", page, flags=re.DOTALL)
    assert not re.search(r"(src|href)=\"(?!#|data:)", ours)


def test_pictures_of_an_earlier_report_are_deleted(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    for name in ("pictures/old.png", "pictures/new.png", "pictures/mine.txt"):
        (tmp_path / name).write_bytes(b"before")
    write_document(tmp_path, {"pictures/new.png": b"after"})
    assert {path.name: path.read_bytes() for path in (tmp_path / "pictures").iterdir()} == {
        "new.png": b"after",
        "mine.txt": b"before",
    }


def test_report_command(
    storage_url: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
    rows,
) -> None:
    monkeypatch.setenv("HPO_STORAGE", storage_url)
    monkeypatch.setenv("HPO_RESULTS_DIR", str(tmp_path))
    trained(rows, 0.5)
    assert run(["report", "--study", "demo"]) == 0
    assert f"wrote {tmp_path}/demo/report.html" in capsys.readouterr().out
    assert {"report.html", "report.md", "pictures", "trials.csv"} <= {
        p.name for p in (tmp_path / "demo").iterdir()
    }
    assert not list(tmp_path.rglob("*.partial"))
    with monkeypatch.context() as patch:
        patch.setattr(search_sections, "_curves", fail)
        assert run(["report", "--study", "demo"]) == 0
    assert "A part of section Learning curves is left out (KeyError: 'broken'): everything" in caplog.text
    caplog.clear()
    assert run(["report", "--study", "dmo"]) == 2
    assert "did you mean demo?" in capsys.readouterr().err
    (tmp_path / "file").write_bytes(b"")
    assert run(["report", "--study", "demo", "-o", str(tmp_path / "file" / "x")]) == 1
    assert "results cannot be written" in capsys.readouterr().err


def test_part_that_cannot_be_made_does_not_cost_the_report(
    database: Database, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    space = {name: FloatDistribution(0.0, 1.0) for name in two_parameters(0)}
    options = {"objective": "digits-cnn", "metric": "val_accuracy", "direction": "maximize"}
    rows = StudyRows(database, spec=spec(space, **options))
    for index in range(24):
        outcome = "pruned" if index % 4 == 3 else "complete"
        trained(rows, 0.1 + index / 50, 0.2 + index / 40, outcome=outcome, params=two_parameters(index))
    bins = {"expected_error": 0.1, "bins": [{"images": 20, "confidence": 0.5, "accuracy": 0.6}]}
    add_retrain(rows, [0.9, 0.91])
    history = read_history(rows.database, rows.name)
    run = (history.answer.metrics or {})["runs"][0] if history.answer else {}
    run["calibration"] = bins
    findings = Findings(history)
    # Computed once, not in each of 50 documents.
    assert findings.effects
    assert findings.importance
    modules = (
        cost,
        default_comparison,
        mistakes,
        parameter_sections,
        reproduction_section,
        retraining_sections,
        search_sections,
        study_report,
        summary_section,
    )
    check_parts(lambda: build_report(history, findings), modules, monkeypatch)
    for name in ("compare_trials", "cost_of", "_trials_csv", "_epochs_csv", "state_of"):
        for module in (study_report, report_findings, cost):
            if hasattr(module, name):
                monkeypatch.setattr(module, name, fail)
    monkeypatch.setattr(
        study_report, "document_files", lambda document, _: {"report.html": render_page(document).encode()}
    )
    found = report_files(history)
    broken = [name for name, content in found.items() if b"left out (KeyError: " in content]
    assert broken == ["report.html", "trials.csv", "epochs.csv", "importance.json", "report.json"]
    caplog.clear()


def two_parameters(index: int) -> dict[str, float]:
    return {"learning_rate": 0.01 + index / 1000, "momentum": (index * 7 % 24) / 24}


def test_values_near_the_largest_float_are_reported(rows: StudyRows) -> None:
    for index in range(24):
        trained(rows, 1e308, (1.7e308, -1.7e308, 0.5 + index / 100)[index % 3])
    huge = [1.7e308, -1.7e308]
    add_retrain(rows, [1e308, 1e308], summary={"test_accuracy": summarize(huge).to_json()})
    found = files(rows)
    assert "| 0 | complete | 1.7e+308 |" in report_text(found)
    assert LEFT_OUT not in found["report.html"].decode()
    assert json.loads(found["importance.json"])["trials_left_out"] == 16


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
    assert "| seed | test_seed | test_training time | training time |" in report_text(found)
    assert len(frames_of(read_history(rows.database, rows.name)).retrains) == 1


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


@pytest.mark.parametrize(("default", "same"), [(1, True), (True, False), (1.0, True)])
def test_default_is_recognized_by_type(rows: StudyRows, default: object, same: bool) -> None:
    space = {"c": categorical([1, True]), "x": FloatDistribution(0.0, 1.0)}
    spec = read_history(rows.database, rows.name).study.spec_json
    first = [{"c": default, "x": 1}]
    rows.set(
        spec={**spec, "space": space_to_json(space), "objective_space": space_to_json(space), "first": first}
    )
    trained(rows, 0.5, params={"c": 1, "x": 1.0})
    assert ("was not tried in this study" in report_text(files(rows))) is not same
