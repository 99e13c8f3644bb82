"""The estimate of `hpo plan` in the report."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest

from hpo.study.history import read_history
from tests.integration.report.made import files, report_text, trained
from tests.integration.rows import StudyRows
from tests.integration.study.definition.test_kept_estimate import ESTIMATE

pytestmark = [pytest.mark.usefixtures("complete_documents"), pytest.mark.xdist_group("report")]


def planned(rows: StudyRows, **values: float) -> None:
    estimate = replace(ESTIMATE, **values)  # type: ignore[arg-type]
    rows.set(spec={**read_history(rows.database, rows.name).study.spec_json, "estimate": estimate.to_json()})


@pytest.mark.usefixtures("pictures")
@pytest.mark.parametrize(
    ("least", "most", "verdict"),
    [
        (5.0, 5000.0, "The search took a time within the planned range for 2 of 10 trials."),
        (5.0, 10.0, "times the most that was planned for 2 of 10 trials."),
        (5000.0, 9000.0, "of the least that was planned for 2 of 10 trials."),
    ],
)
def test_report_compares_the_estimate_with_the_search(
    rows: StudyRows, least: float, most: float, verdict: str
) -> None:
    trained(rows, 0.5, 0.7, 0.9)
    trained(rows, 0.5, 0.7)
    planned(rows, least_seconds=least, most_seconds=most)
    found = files(rows)
    markdown = report_text(found)
    assert "| epochs | 20 to 40 | 5 |" in markdown
    assert re.search(r"\| time of a complete trial \| 9\.0s \| \d", markdown)
    assert verdict in markdown
    shown = json.loads(found["report.json"])["estimate"]
    assert (shown["planned"]["most_epochs"], shown["search"]["epochs"]) == (40, 5)


def test_study_that_was_not_planned_has_no_comparison(rows: StudyRows) -> None:
    trained(rows, 0.5)
    found = files(rows)
    assert "planned" not in report_text(found)
    assert json.loads(found["report.json"])["estimate"] is None
