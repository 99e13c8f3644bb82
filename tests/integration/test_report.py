"""`hpo report`, from the database to the files: whatever a study has come to, and whatever its names are."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from pathlib import Path

import pytest

from hpo.analysis.common_epoch import compare_trials
from hpo.analysis.statistics import summarize
from hpo.cli.main import run
from hpo.document.files import write_files
from hpo.report.study_report import report_files, seed_noise
from hpo.study.history import read_history
from storage.engine import Database
from tests.integration.retrained import add_retrain
from tests.integration.rows import StudyRows

DEFAULT = {"learning_rate": 0.05}


@pytest.fixture
def rows(database: Database) -> StudyRows:
    return StudyRows(database)


def trained(rows: StudyRows, *values: float, outcome: str | None = "complete", **more: object) -> int:
    """A trial with an epoch for each value."""
    final = values[-1] if outcome in ("complete", "pruned") else None
    reservation_id = rows.trial(outcome, final, completed=len(values), **more)
    attempt = rows.attempt(
        reservation_id,
        rows.agent(ended=1.0),
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


def text(found: dict[str, bytes]) -> str:
    """The report in Markdown, as it reads."""
    return re.sub(r"\\([^a-zA-Z0-9\s])", r"\1", found["report.md"].decode())


def test_a_study_without_any_trial(rows: StudyRows) -> None:
    found = files(rows)
    said = text(found)
    assert "No trial has completed yet" in said
    assert "There is no complete trial to retrain" in said
    assert "0 of 10 trials have finished" in said
    assert not [name for name in found if name.endswith(".png")]
    assert json.loads(found["report.json"])["best_trial"] is None
    # Without a chart there is nothing to draw with.
    assert len(found["report.html"]) < 50_000


def test_a_study_that_runs_and_was_never_retrained(rows: StudyRows) -> None:
    trained(rows, 0.5, 0.7, 0.9, 0.91, 0.92)
    trained(rows, 0.3, 0.4, outcome="pruned")
    trained(rows, math.nan, outcome="diverged")
    open_trial = rows.trial(completed=1)
    rows.epoch(open_trial, rows.attempt(open_trial, rows.agent()), 1, {"val_accuracy": 0.6})
    rows.trial("bug", error="it broke")
    found = files(rows)
    said = text(found)
    assert "The search is running: 3 of 10 trials have finished" in said
    assert "Best so far: val_accuracy 0.9200 on validation images, trial 0." in said
    assert "hpo retrain --study demo gives an unbiased estimate" in said
    assert "too few trials" in said
    assert "Pruning saved 3 of 12 epochs (25 %)" in said
    assert "has no default configuration" in said
    for key in ("history", "learning-curves", "slices"):
        assert found[f"pictures/{key}.png"].startswith(b"\x89PNG")
        assert f"pictures/{key}.png" in said
    summary = json.loads(found["report.json"])
    assert (summary["best_trial"]["number"], summary["retrained"], summary["test_openings"]) == (0, None, [])
    table = list(csv.DictReader(io.StringIO(found["trials.csv"].decode())))
    assert [row["state"] for row in table] == ["complete", "pruned", "diverged", "running", "bug"]
    epochs = list(csv.DictReader(io.StringIO(found["epochs.csv"].decode())))
    assert [row["val_accuracy"] for row in epochs if row["number"] == "2"] == ["nan"]
    assert json.loads(found["importance.json"])["importance"] is None


def test_pruned_trials_are_compared_where_they_still_ran(rows: StudyRows) -> None:
    for index in range(6):
        trained(rows, 0.5, 0.5 + index / 100, 0.9, 0.9, 0.9)
    for index in range(6):
        trained(rows, 0.2, 0.2 + index / 100, outcome="pruned")
    found = json.loads(files(rows)["importance.json"])
    assert (found["compared_after_epoch"], found["trials"], found["trials_left_out"]) == (2, 12, 0)
    # What has just begun or went wrong at once does not shorten the comparison of the others.
    for outcome in (None, None, "diverged", "diverged"):
        trained(rows, 0.3 if outcome is None else math.nan, outcome=outcome)
    found = json.loads(files(rows)["importance.json"])
    assert (found["compared_after_epoch"], found["trials"], found["trials_left_out"]) == (2, 12, 4)


def test_a_retrained_study(rows: StudyRows) -> None:
    trained(rows, 0.5, 0.7, 0.9, 0.91, 0.92)
    add_retrain(rows, [0.5, 0.6])
    add_retrain(rows, [0.8, 0.9, 0.85])
    rows.set(budget=1)
    found = files(rows)
    said = text(found)
    assert (
        "**Test accuracy 0.8500 ± 0.0500 (95 % interval 0.7258 to 0.9742, n = 3 seeds): trial 0, retrained.**"
        in said
    )
    assert "Retrains of this study evaluated the test set 2 times" in said
    assert "shows the latest of the configuration that the search chose, not the best" in said
    # 24 + 27 of 30 images in each class, three seeds together.
    assert "| cat | 0.8889 | 0.8000 | 0.8421 | 30 |" in said
    assert "| cat | dog | 6 | 20.0 % |" in said
    assert (
        "The sampling error of 20 test images alone gives an accuracy of 0.6396 to 0.9476 (95 %, Wilson)."
        in said
    )
    assert "The search is" not in said
    assert {"pictures/confusion.png", "pictures/training.png"} <= found.keys()
    summary = json.loads(found["report.json"])
    assert summary["retrained"]["parameters"] == 1234
    assert len(summary["test_openings"]) == 2
    assert summary["state"] == []


def test_against_the_default_configuration(rows: StudyRows) -> None:
    spec = read_history(rows.database, rows.name).study.spec
    default = {"learning_rate": 0.05}
    rows.set(spec={**spec, "first": [default]})
    trained(rows, 0.8, 0.9)
    assert "default configuration was not tried" in text(files(rows))
    trained(rows, 0.7, 0.85, params=default)
    said = text(files(rows))
    assert (
        "In the search, trial 0 reached val_accuracy 0.9000 and the objective's default configuration" in said
    )
    assert "(trial 1) 0.8500: 5.0 points better on validation images. With one run each" in said
    assert "--top K" in said
    # Once both were retrained, seeds decide.
    add_retrain(rows, [0.80, 0.81, 0.82], params=default)
    add_retrain(rows, [0.90, 0.91, 0.92])
    said = text(files(rows))
    assert (
        "test accuracy 0.9100 instead of 0.8100, 10.0 points better (95 % interval 7.7 to 12.3 points" in said
    )
    assert "exceeds seed noise" in said


@pytest.fixture
def with_default(rows: StudyRows) -> StudyRows:
    """A study that knows a default configuration, which was tried and is not the best."""
    spec = read_history(rows.database, rows.name).study.spec
    rows.set(spec={**spec, "first": [DEFAULT]})
    trained(rows, 0.8, 0.9)
    trained(rows, 0.7, 0.85, params=DEFAULT)
    return rows


def test_the_default_is_compared_whichever_was_retrained_last(with_default: StudyRows) -> None:
    add_retrain(with_default, [0.90, 0.91, 0.92])
    add_retrain(with_default, [0.80, 0.81, 0.82], params=DEFAULT)
    assert "test accuracy 0.9100 instead of 0.8100, 10.0 points better" in text(files(with_default))


def test_the_answer_is_what_the_search_chose_whatever_else_was_retrained(with_default: StudyRows) -> None:
    add_retrain(with_default, [0.90, 0.91, 0.92], source="search")
    add_retrain(with_default, [0.97, 0.98, 0.99], source="file", config={"trial": None})
    add_retrain(with_default, [0.80, 0.81, 0.82], params=DEFAULT, source="trial", config={"trial": 1})
    found = files(with_default)
    said = text(found)
    assert "**Test accuracy 0.9100 ± 0.0100 (95 % interval 0.8852 to 0.9348, n = 3 seeds): trial 0" in said
    assert "| learning_rate | 0.01 | 0.05 |" in said
    assert "| a configuration from a file | 2 of all images | test accuracy 0.9800 ± 0.0100" in said
    assert "| trial 1 | 2 of all images | test accuracy 0.8100 ± 0.0100" in said
    assert (
        "of these 3 retrains, this report shows the latest of the configuration that the search chose, not the best"
        in said
    )
    assert json.loads(found["report.json"])["retrained"]["trial"] == 0


def test_the_last_retrain_answers_where_the_search_chose_none(with_default: StudyRows) -> None:
    add_retrain(with_default, [0.8, 0.9], source="trial", config={"trial": 1})
    add_retrain(with_default, [0.7, 0.8], source="file", config={"trial": None})
    assert "**Test accuracy 0.7500 ± 0.0707" in text(files(with_default))


def test_how_much_seeds_differ_is_not_told_where_none_did(with_default: StudyRows) -> None:
    add_retrain(with_default, [0.8, 0.8, 0.8], params=DEFAULT, config={"trial": 1}, source="trial")
    add_retrain(with_default, [1.0, 1.0, 1.0])
    said = text(files(with_default))
    assert "20.0 points better; there are too few distinct values to estimate seed noise." in said
    assert "within seed noise" not in said
    assert "**Test accuracy 1.0000 ± 0.0000 (n = 3 seeds, all equal): trial 0, retrained.**" in said
    assert "test images alone gives an accuracy of 0.8389 to 1.0000" in said


@pytest.mark.parametrize("other", [{"epochs": 3}, {"data": {"limit": 100}}, {"objective": "mine.py:Mine"}])
def test_retrains_on_other_terms_are_not_compared(with_default: StudyRows, other: dict) -> None:
    add_retrain(with_default, [0.50, 0.51, 0.52], params=DEFAULT, config=other)
    add_retrain(with_default, [0.90, 0.91, 0.92])
    said = text(files(with_default))
    assert "retrained with a different setup" in said
    assert "seed noise" not in said


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


def test_a_default_that_led_the_search_and_lost_to_fresh_seeds(with_default: StudyRows) -> None:
    trained(with_default, 0.9, 0.95, params=DEFAULT)
    selection = candidates(
        (DEFAULT, [0.80, 0.81, 0.82], False), ({"learning_rate": 0.01}, [0.9, 0.91, 0.92], True)
    )
    add_retrain(with_default, [0.90, 0.91, 0.92], selection=selection)
    said = text(files(with_default))
    assert "0.9100 instead of 0.8100, 10.0 points better" in said
    assert "No trial was better" not in said


def test_a_default_that_fresh_seeds_preferred(with_default: StudyRows) -> None:
    selection = candidates(
        ({"learning_rate": 0.01}, [0.80, 0.81, 0.82], False), (DEFAULT, [0.9, 0.91, 0.92], True)
    )
    add_retrain(with_default, [0.90, 0.91, 0.92], params=DEFAULT, selection=selection)
    said = text(files(with_default))
    assert "is the objective's default configuration, the best of 2 candidates" in said
    assert "With one run each" not in said


def test_a_default_that_was_tried_twice_is_not_better_than_itself(with_default: StudyRows) -> None:
    trained(with_default, 0.9, 0.95, params=DEFAULT)
    assert "No trial was better than the objective's default" in text(files(with_default))


def test_a_test_set_that_an_unfinished_retrain_has_opened(rows: StudyRows) -> None:
    trained(rows, 0.8, 0.9)
    assert "The test set has not been used yet" in text(files(rows))
    add_retrain(rows, [0.9], finished=False)
    said = text(files(rows))
    assert "Unfinished retrains have evaluated the test set once." in said
    assert "has not been used" not in said


def test_a_retrain_on_other_terms_than_the_search_says_so(rows: StudyRows) -> None:
    trained(rows, 0.8, 0.9)
    data = read_history(rows.database, rows.name).study.spec["data"]
    add_retrain(rows, [0.9], config={"epochs": 5, "data": data})
    assert "trials had" not in text(files(rows))
    add_retrain(rows, [0.9], config={"epochs": 30, "data": {**data, "limit": 500}})
    assert "Retrained with 30 epochs of 500 images; trials had 5 epochs of all training images." in text(
        files(rows)
    )


def test_how_seeds_spread_is_learnt_on_the_terms_of_the_search(rows: StudyRows) -> None:
    for value in (0.8, 0.9):
        trained(rows, *[value] * 5)
    selection = candidates(({"learning_rate": 0.01}, [0.80, 0.81, 0.82], True))
    history = read_history(rows.database, rows.name)
    add_retrain(rows, [0.9], selection=selection, config={"epochs": 1, "data": history.study.spec["data"]})
    found = read_history(rows.database, rows.name)
    assert seed_noise(found, compare_trials(found)) is None
    add_retrain(rows, [0.9], selection=selection, config={"epochs": 5, "data": history.study.spec["data"]})
    found = read_history(rows.database, rows.name)
    assert seed_noise(found, compare_trials(found)) == pytest.approx(0.01)


def test_a_figure_that_is_not_finite_is_shown_as_such(rows: StudyRows) -> None:
    trained(rows, 0.8, 0.9)
    add_retrain(rows, [math.nan, 0.8])
    assert "| test accuracy | nan | - | - | 2 |" in text(files(rows))


def test_a_configuration_of_another_study_is_reproduced_from_its_file(rows: StudyRows) -> None:
    trained(rows, 0.8, 0.9)
    add_retrain(rows, [0.9], config={"trial": 0, "study": "elsewhere"})
    said = text(files(rows))
    assert "hpo retrain --study demo --seeds 1 --epochs 2 --config best_config.yaml" in said
    add_retrain(rows, [0.9], config={"trial": 7, "study": "demo"})
    assert "hpo retrain --study demo --seeds 1 --epochs 2 --trial 7" in text(files(rows))


def test_what_the_search_was_computed_in(rows: StudyRows) -> None:
    rows.agent(versions={"keras": "3.15", "backend": "tensorflow", "precision": "bfloat16"})
    said = text(files(rows))
    assert "--seed 0 --precision bfloat16 --workers 2" in said
    assert "keras 3.15, backend tensorflow, precision bfloat16" in said
    rows.agent(versions={"keras": "3.15", "backend": "tensorflow", "precision": "float32"})
    said = text(files(rows))
    assert "--precision" not in said
    assert "| different between agents | precision |" in said


def test_a_study_that_minimizes(database: Database) -> None:
    rows = StudyRows(database, "low", direction="minimize")
    for value in (0.5, 0.1, 0.9):
        trained(rows, value)
    assert json.loads(files(rows)["report.json"])["best_trial"]["value"] == 0.1


def test_names_of_the_users_own_are_no_markup(rows: StudyRows) -> None:
    bad = '</script><b onload="x">$a|b*'
    trained(rows, 0.5, params={"learning_rate": 0.01, bad: bad})
    trained(rows, 0.4, outcome="pruned", params={"learning_rate": 0.02, bad: bad})
    rows.trial("bug", error=bad)
    add_retrain(rows, [0.9], classes=(bad, "dog"))
    found = files(rows)
    page = found["report.html"].decode()
    assert "<b onload" not in page
    # What opens a script is ours: an own one for each panel, and two more.
    panels = page.count("data-figure=")
    assert page.count("</script>") == panels + 2
    assert "<b" not in found["report.md"].decode().replace("\\<b", "")


def test_a_page_loads_nothing(rows: StudyRows) -> None:
    trained(rows, 0.5)
    page = files(rows)["report.html"].decode()
    assert "default-src 'none'" in page
    # Outside the code of Plotly, which names sites that it could ask for maps.
    ours = re.sub(r"<script>.*?</script>", "", page, flags=re.DOTALL)
    assert not re.search(r"(src|href)=\"(?!#|data:)", ours)


def test_pictures_of_an_earlier_report_go(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    for name in ("pictures/old.png", "pictures/new.png", "pictures/mine.txt"):
        (tmp_path / name).write_bytes(b"before")
    write_files(tmp_path, {"pictures/new.png": b"after"})
    assert {path.name: path.read_bytes() for path in (tmp_path / "pictures").iterdir()} == {
        "new.png": b"after",
        "mine.txt": b"before",
    }


def test_the_command(
    storage_url: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
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
    assert run(["report", "--study", "dmo"]) == 2
    assert "did you mean demo?" in capsys.readouterr().err
    (tmp_path / "file").write_bytes(b"")
    assert run(["report", "--study", "demo", "-o", str(tmp_path / "file" / "x")]) == 1
    assert "results cannot be written" in capsys.readouterr().err
