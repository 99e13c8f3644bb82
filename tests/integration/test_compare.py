"""`hpo compare`: differences between studies and their significance."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hpo.analysis.statistics import Difference
from hpo.cli.main import run
from hpo.report import compare_sections, compare_tasks, cost, study_comparison
from hpo.report.compare_sections import build_document, verdict
from hpo.report.study_comparison import PairwiseDifference, StudyComparison, StudyResult
from hpo.study.history import read_history
from storage.engine import Database
from tests.broken_parts import check_parts, fail
from tests.integration.rows import StudyRows, add_retrain

# One worker of the suite imports the libraries that draw charts.
pytestmark = [pytest.mark.usefixtures("complete_documents"), pytest.mark.xdist_group("report")]


@pytest.fixture
def hpo(
    storage_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
):
    monkeypatch.setenv("HPO_STORAGE", storage_url)
    monkeypatch.setenv("HPO_RESULTS_DIR", str(tmp_path))

    def call(*names: str) -> tuple[int, str, str]:
        code = run(["compare", *(argument for name in names for argument in ("--study", name))])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


@pytest.fixture
def studies(database: Database) -> dict[str, StudyRows]:
    found = {name: StudyRows(database, name) for name in ("good", "alike", "poor", "never")}
    for rows in found.values():
        rows.trial("complete", 0.9, completed=5)
    add_retrain(found["good"], [0.93, 0.94, 0.95])
    add_retrain(found["alike"], [0.92, 0.94, 0.96])
    add_retrain(found["poor"], [0.60, 0.61, 0.62])
    return found


@pytest.mark.usefixtures("studies")
def test_differences_within_and_beyond_seed_noise(hpo, tmp_path: Path) -> None:
    code, out, err = hpo("good", "alike", "poor")
    assert (code, err) == (0, "")
    assert "good and alike tie: within seed noise." in out
    assert "good is 33.0 points above poor: more than seed noise." in out
    assert "1,234" in out
    folder = tmp_path / "compare-good-alike-poor"
    found = json.loads((folder / "compare.json").read_text())
    assert [pair["exceeds_noise"] for pair in found["pairs"]] == [False, True, True]
    assert found["figure"] == "test_accuracy"
    assert 600_000 < (folder / "compare.html").stat().st_size < 1_500_000
    assert (folder / "pictures" / "final-curves.png").is_file()
    assert "pictures/seeds.png" in (folder / "compare.md").read_text()


@pytest.mark.parametrize(
    ("mean", "p_value", "expected"),
    [
        (1e-17, 1.0, "a and b tie: within seed noise."),
        (0.0, None, "a and b tie; there are too few seeds to estimate seed noise."),
        (-0.0003, 0.01, "b is less than 0.1 points above a: more than seed noise."),
        (0.0006, 0.5, "a is 0.1 points above b: within seed noise."),
    ],
)
def test_tie_is_reported_as_a_tie(mean: float, p_value: float | None, expected: str) -> None:
    pair = PairwiseDifference("a", "b", Difference(mean, None, p_value), p_value)
    assert verdict(pair, "test_accuracy") == expected


@pytest.mark.usefixtures("studies")
def test_study_that_was_never_retrained_is_listed(hpo) -> None:
    code, out, _ = hpo("good", "never")
    assert code == 0
    assert "never was never retrained" in out
    assert "0.9000" in out


@pytest.mark.usefixtures("studies")
def test_part_that_cannot_be_made_does_not_cost_the_comparison(
    database: Database, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    results = [StudyResult(read_history(database, name)) for name in ("good", "poor")]
    modules = (compare_sections, compare_tasks, cost)
    check_parts(lambda: build_document(StudyComparison(results)), modules, monkeypatch)
    monkeypatch.setattr(study_comparison, "common_figure", fail)
    document = build_document(StudyComparison(results))
    assert [section.title for section in document.sections] == ["Final figures", "Learning curves", "Cost"]
    caplog.clear()


def test_single_seeds_do_not_estimate_seed_noise(hpo, studies) -> None:
    for name in ("good", "alike"):
        add_retrain(studies[name], [0.9])
    assert "too few seeds to estimate seed noise" in hpo("good", "alike")[1]


def test_different_test_classes_are_reported(hpo, studies) -> None:
    add_retrain(studies["poor"], [0.6, 0.7], classes=("a", "b"))
    assert "note: The studies were tested on different classes" in hpo("good", "poor")[1]


@pytest.mark.usefixtures("studies")
def test_too_few_or_unknown_studies_are_refused(hpo) -> None:
    assert hpo("good")[0] == 2
    code, _, err = hpo("good", "goood")
    assert code == 2
    assert "did you mean good?" in err
