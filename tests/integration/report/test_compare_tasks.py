"""Comparisons of studies of a task, and of different ones."""

from __future__ import annotations

import pytest

from hpo.document.markdown import render_markdown
from hpo.report.compare_sections import build_document
from hpo.report.study_comparison import StudyComparison, StudyResult
from hpo.study.history import read_history
from storage.engine import Database
from tests.integration.report.task_rows import REGRESSION, complete, retrained, study

pytestmark = [pytest.mark.usefixtures("complete_documents"), pytest.mark.xdist_group("report")]


def test_comparison_of_regressions_prefers_the_lower_error(database: Database) -> None:
    for name, worse in (("first", 1.0), ("second", 0.0)):
        rows = study(database, "val_rmse", "minimize", name)
        complete(rows, {"val_rmse": 2.4}, "val_rmse")
        tested = {
            metric: [value + worse for value in (1.0, 1.01, 1.02)] for metric in ("test_loss", "test_rmse")
        }
        retrained(rows, tested, REGRESSION)
    compared = StudyComparison([StudyResult(read_history(database, name)) for name in ("first", "second")])
    document = build_document(compared)
    text = render_markdown(document, "pictures").replace("\\", "")
    assert compared.figure == "test_rmse"
    assert (
        "**second is 1.0000 below first in test RMSE, where lower is better: more than seed noise.**" in text
    )
    assert "| second | 1.0100 ± 0.0100 | 1.0100 ± 0.0100 |" in text
    assert "errors" in [figure.key for figure in document.figures()]


def test_studies_of_different_tasks_have_no_common_figure(database: Database) -> None:
    for name, task in (("first", "regression"), ("second", "classes")):
        rows = study(database, "val_loss", "minimize", name)
        complete(rows, {"val_loss": 2.4}, "val_loss")
        retrained(rows, {"test_loss": [1.0, 2.0]}, {"task": task})
    compared = StudyComparison([StudyResult(read_history(database, name)) for name in ("first", "second")])
    assert compared.figure is None
    text = render_markdown(build_document(compared), "pictures")
    assert "The studies were of different tasks (first regression, second classes)" in text
