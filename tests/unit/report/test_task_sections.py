"""Figures of one kind of task."""

from hpo.document.charts import Chart
from hpo.document.document import Figure
from hpo.report.task_sections import task_sections

CURVE = {"x": [0.0, 1.0], "y": [0.0, 1.0]}


def test_curves_are_in_the_order_of_the_classes() -> None:
    # As the database returns them: shorter names first.
    curves = {kind: {"cat": CURVE, "bird": CURVE} for kind in ("roc", "precision_recall")}
    run = {"seed": 1, "task": "classes", "classes": ["bird", "cat"], "curves": curves, "n_test": 2}
    (found,) = task_sections(lambda: {"runs": [run]})
    (figure,) = [block for block in found.blocks if isinstance(block, Figure)]
    for panel in figure.panels:
        assert isinstance(panel, Chart)
        assert [series.name for series in panel.series if series.name in run["classes"]] == ["bird", "cat"]
