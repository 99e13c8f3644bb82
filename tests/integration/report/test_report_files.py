"""The files that `hpo report` writes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from optuna.distributions import FloatDistribution

from hpo.cli.main import run
from hpo.document.files import write_document
from hpo.document.html import render_page
from hpo.report import (
    cost,
    default_comparison,
    headline,
    learning_curves,
    mistakes,
    parameter_sections,
    reproduction_section,
    retraining_sections,
    search_sections,
    study_report,
    summary_section,
    task_sections,
)
from hpo.report import findings as report_findings
from hpo.report.findings import Findings
from hpo.report.study_report import build_report, report_files
from hpo.study.history import read_history
from storage.engine import Database
from tests.broken_parts import check_parts, fail
from tests.integration.report.made import files, trained
from tests.integration.rows import StudyRows, add_retrain
from tests.specs import spec

# One worker of the suite imports the libraries that draw charts.
pytestmark = [pytest.mark.usefixtures("complete_documents"), pytest.mark.xdist_group("report")]


@pytest.mark.usefixtures("pictures")
def test_names_from_the_user_are_escaped(rows: StudyRows) -> None:
    bad = '</script><b onload="x">$a|b*'
    trained(rows, 0.5, params={"learning_rate": 0.01, bad: bad})
    trained(rows, 0.4, outcome="pruned", params={"learning_rate": 0.02, bad: bad})
    rows.trial("bug", error=bad)
    add_retrain(rows, [0.9], classes=(bad, "dog"))
    found = files(rows)
    page = found["report.html"].decode()
    assert "<b onload" not in page
    # Only our own scripts: Plotly, the charts, and the one that draws them.
    assert page.count("data-chart=") == 5
    assert page.count("</script>") == 3
    assert "<b" not in found["report.md"].decode().replace("\\<b", "")


def test_page_loads_no_external_resources(rows: StudyRows) -> None:
    trained(rows, 0.5)
    page = files(rows)["report.html"].decode()
    assert "default-src 'none'" in page
    assert not re.search(r"(src|href)=\"(?!#|data:)", page)


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
        patch.setattr(search_sections, "curves", fail)
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
    curve = {"cat": {"x": [0.0, 1.0], "y": [0.5, 1.0]}}
    scores = dict.fromkeys(("precision", "recall", "f1", "auc", "average_precision"), 0.5)
    run["curves"] = {"roc": curve, "precision_recall": curve}
    run["per_label"] = [{"label": "cat", "positives": 5, **scores}]
    run["residuals"] = {"age": {"true": [1.0, 2.0], "predicted": [1.5, 2.0]}}
    findings = Findings(history)
    monkeypatch.setattr(parameter_sections, "_GRID", 5)
    # Computed once, not in each of 50 documents.
    assert findings.effects
    assert findings.importance
    modules = (
        cost,
        default_comparison,
        headline,
        learning_curves,
        mistakes,
        parameter_sections,
        reproduction_section,
        retraining_sections,
        search_sections,
        study_report,
        summary_section,
        task_sections,
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
