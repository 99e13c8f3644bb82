"""Studies of one task next to each other: their curves, their scores of labels, their errors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hpo import formatting
from hpo.analysis.figures import label_of
from hpo.document.charts import Axis, Chart, Point, Series, colour_of
from hpo.document.document import Figure, Table
from hpo.formatting import quantity
from hpo.report.study_comparison import StudyResult, common_figures
from hpo.report.task_sections import MOST_LABELS, curve_panels, label_scores, points_of


def figure_table(results: Sequence[StudyResult]) -> Table | None:
    """Return a table of all test figures, a row for each study; None if there is no more than one."""
    retrained = [result for result in results if result.runs]
    figures = common_figures(retrained)
    if len(figures) < 2:
        return None
    rows = [
        {
            "study": result.name,
            **{
                label_of(name): "-" if (one := result.summary(name)) is None else one.shown_mean
                for name in figures
            },
        }
        for result in retrained
    ]
    return Table.of(rows, text=["study"], caption="All test figures, mean over seeds and standard deviation.")


def curves(results: Sequence[StudyResult]) -> Figure | None:
    """Return the ROC and precision-recall curves of studies with one curve each, of the first seed."""
    recorded = _recorded(results, "curves")
    names = {tuple(found["roc"]) for _, _, found in recorded}
    if len(recorded) < 2 or len(names) > 1 or len(next(iter(names))) > 1:
        return None
    (name,) = names.pop()
    roc, precision = (
        [
            Series(name=study, points=points_of(found[kind][name]), colour=colour_of(index), width=1.8)
            for index, study, found in recorded
        ]
        for kind in ("roc", "precision_recall")
    )
    caption = f"ROC and precision-recall curves of {name}, first seed of each study; dashed: chance."
    return Figure("curves", caption, curve_panels(roc, precision), height=380)


def label_table(results: Sequence[StudyResult]) -> Table | None:
    """Return the F1 of each label, a column for each study; None unless the studies have the same labels."""
    scores = {one.name: label_scores(one.runs) for one in results if one.runs}
    labels = {tuple(str(row["label"]) for row in rows) for rows in scores.values()}
    if len(scores) < 2 or len(labels) != 1 or not (names := labels.pop()):
        return None
    rows = [
        {"label": name, **{study: formatting.metric(rows[place]["f1"]) for study, rows in scores.items()}}
        for place, name in enumerate(names[:MOST_LABELS])
    ]
    subset = "each label" if len(names) <= MOST_LABELS else f"the first {MOST_LABELS} of {len(names)} labels"
    return Table.of(rows, text=["label"], caption=f"F1 of {subset}, mean over seeds.")


def errors(results: Sequence[StudyResult]) -> Figure | None:
    """Return the share of test examples within each absolute error, for targets that all studies have."""
    recorded = _recorded(results, "residuals")
    if len(recorded) < 2:
        return None
    shared = [name for name in recorded[0][2] if all(name in found for _, _, found in recorded)]
    if not shared:
        return None
    charts = [
        Chart(
            name,
            Axis("absolute error"),
            Axis("share of test examples", bounds=(0.0, 1.02)),
            [
                Series(name=study, points=_cumulated(found[name]), colour=colour_of(index))
                for index, study, found in recorded
            ],
        )
        for name in shared[:4]
    ]
    caption = (
        "Share of the test examples whose absolute error is at most this large, first seed of each study."
    )
    return Figure("errors", caption, charts, height=340)


def _cumulated(one: Mapping[str, Sequence[float]]) -> list[Point]:
    ordered = sorted(abs(p - t) for t, p in zip(one["true"], one["predicted"], strict=True))
    return [
        Point(
            error,
            (place + 1) / len(ordered),
            f"{100 * (place + 1) / len(ordered):.0f} % within {quantity(error)}",
        )
        for place, error in enumerate(ordered)
    ]


def _recorded(results: Sequence[StudyResult], name: str) -> list[tuple[int, str, Mapping[str, Any]]]:
    """Return index, study and a record of the first final run, of the studies that have it."""
    return [
        (index, one.name, one.runs[0][name])
        for index, one in enumerate(results)
        if one.runs and one.runs[0].get(name)
    ]
