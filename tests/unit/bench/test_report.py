"""Tables of benchmarks as Markdown and JSON, with hardware and versions."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.report import Report, Table, cell, median, ratio, spread


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "–"),
        (True, "yes"),
        (12_345, "12,345"),
        (12_345.6, "12,346"),
        (0.98765, "0.988"),
        ("a|b", "a\\|b"),
    ],
)
def test_cell_shows_three_digits(value: object, shown: str) -> None:
    assert cell(value) == shown


def test_column_of_some_rows_is_shown_for_all() -> None:
    table = Table("Title", [{"a": 1}, {"a": 2, "b": "x"}]).markdown()
    assert table.splitlines() == ["**Title**", "", "| a | b |", "| --- | --- |", "| 1 | – |", "| 2 | x |"]


def test_median_spread_and_ratio_of_measurements() -> None:
    assert median([]) is None
    assert median([3.0, 1.0, 2.0]) == 2.0
    assert spread([]) == "–"
    assert spread([2.0]) == "2.0"
    assert spread([3.0, 1.0, 2.0]) == "2.0 (1.0–3.0)"
    assert ratio(3.0, 2.0) == 1.5
    assert ratio(None, 2.0) is None
    assert ratio(3.0, None) is None


def test_report_names_hardware_and_versions(tmp_path: Path) -> None:
    report = Report("name", "Title")
    report.table("Rows", [{"seconds": 1.5, "n": 3}])
    report.note("A note.")
    report.raw = {"seconds": [1.0, 1.5, 2.0]}
    path = report.write(tmp_path)
    assert path == tmp_path / "name.md"
    for text in ("# Title", "| 1.5 | 3 |", "* A note.", "cores", "python", "optuna", "load average"):
        assert text in path.read_text()
    stored = json.loads((tmp_path / "name.json").read_text())
    assert stored["tables"] == [{"title": "Rows", "rows": [{"seconds": 1.5, "n": 3}]}]
    assert stored["raw"] == report.raw
    assert stored["hardware"]["cores"] >= 1
    assert "optuna" in stored["versions"]


def test_report_names_the_commit_that_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    report = Report("name", "Title", commit="measured")
    monkeypatch.setattr("bench.report.git_commit", lambda: "checked out meanwhile")
    path = report.write(tmp_path)
    assert "Commit measured," in path.read_text()
    assert json.loads(path.with_suffix(".json").read_text())["commit"] == "measured"


def test_interrupted_run_leaves_its_measurements(tmp_path: Path) -> None:
    report = Report("name", "Title")
    report.table("Rows", [{"seconds": 1.5, "n": 1}])
    path = report.keep(tmp_path)
    assert "Incomplete" in path.read_text()
    report.table("Rows", [{"seconds": 1.6, "n": 2}])
    assert report.write(tmp_path) == path
    assert "Incomplete" not in path.read_text()
    assert json.loads((tmp_path / "name.json").read_text())["tables"] == [
        {"title": "Rows", "rows": [{"seconds": 1.6, "n": 2}]}
    ]


def test_smoke_run_does_not_replace_a_real_one(tmp_path: Path) -> None:
    path = Report("name", "Title", quick=True).write(tmp_path)
    assert path.name == "name-quick.md"
    assert "meaningless" in path.read_text()
