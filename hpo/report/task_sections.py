"""Figures of one kind of task as a section: ROC and precision-recall curves, scores of labels, residuals."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from hpo import formatting
from hpo.analysis.examples import examples_of
from hpo.analysis.figures import SCORES
from hpo.document.charts import BLUE, GREY, Axis, Chart, Point, Series, colour_of
from hpo.document.document import Block, Figure, Section, Table
from hpo.document.parts import section

MOST_LABELS = 40
"""Largest number of labels in the table; of more, those with the lowest F1 are listed."""
MOST_TARGETS = 4
"""Largest number of targets whose residuals are drawn."""
BINS = 30
"""Bins of a histogram of residuals."""


def task_sections(metrics: Callable[[], Mapping[str, Any]]) -> list[Section]:
    """Return the sections of the records that the final runs have; empty if they have none of them."""
    return [
        *section("Labels", lambda: _labels(metrics()["runs"])),
        *section("ROC and precision-recall", lambda: _curves(metrics()["runs"])),
        *section("Residuals", lambda: _residuals(metrics()["runs"])),
    ]


def _curves(runs: Sequence[Mapping[str, Any]]) -> Figure | None:
    """Return both kinds of curves: of each seed if there is one curve, else of each class of the exported model."""
    recorded = [run["curves"] for run in runs if run.get("curves")]
    if not recorded:
        return None
    # The database does not keep the order of names.
    order = {str(name): index for index, name in enumerate(runs[0].get("classes") or ())}
    names = sorted(recorded[0]["roc"], key=lambda name: order.get(name, len(order)))
    if len(names) == 1:
        named = [(f"seed {run['seed']}", run["curves"], names[0]) for run in runs if run.get("curves")]
        subject = f"of {names[0]}, for each final run"
    else:
        named = [(name, recorded[0], name) for name in names]
        kind = "label by itself" if runs[0].get("task") == "labels" else "class against the others"
        subject = f"of the exported model, each {kind}"
    roc, precision = (
        [
            Series(name=name, points=points_of(curves[kind][key]), colour=colour_of(index), width=1.8)
            for index, (name, curves, key) in enumerate(named)
            if key in curves[kind]
        ]
        for kind in ("roc", "precision_recall")
    )
    caption = (
        f"ROC and precision-recall curves {subject}, on the test {examples_of(runs[0])}; dashed: chance."
    )
    return Figure("curves", caption, curve_panels(roc, precision), height=400)


def points_of(curve: Mapping[str, Sequence[float]]) -> list[Point]:
    """Return the points of a recorded curve."""
    return [Point(x, y) for x, y in zip(curve["x"], curve["y"], strict=True)]


def curve_panels(roc: Sequence[Series], precision: Sequence[Series]) -> list[Chart]:
    """Return the ROC and the precision-recall curves as two charts, the first with the line of chance."""
    chance = [Point(0.0, 0.0), Point(1.0, 1.0)]
    line = Series(name="chance", points=chance, style="dashed", colour=GREY, width=1.2, legend=False)
    rate, recall = Axis("false positive rate", bounds=(0.0, 1.0)), Axis("recall", bounds=(0.0, 1.0))
    return [
        Chart("ROC", rate, Axis("true positive rate", bounds=(0.0, 1.02)), [line, *roc]),
        Chart("Precision-recall", recall, Axis("precision", bounds=(0.0, 1.02)), precision),
    ]


def _labels(runs: Sequence[Mapping[str, Any]]) -> Table | None:
    rows = label_scores(runs)
    if not rows:
        return None
    subset = "Each label"
    if len(rows) > MOST_LABELS:
        subset = f"The {MOST_LABELS} labels with the lowest F1 of {len(rows)}"
        rows = sorted(rows, key=lambda row: row["f1"] or 0.0)[:MOST_LABELS]
    shown = [
        {
            "label": str(row["label"]),
            "positives": str(row["positives"]),
            **{title: formatting.metric(row[name]) for name, title in SCORES.items()},
        }
        for row in rows
    ]
    over = "" if len(runs) == 1 else f", means over {len(runs)} seeds"
    noun = examples_of(runs[0])
    caption = f"{subset}{over}; positives: test {noun} that have the label. metrics.json has all of them."
    return Table.of(shown, text=["label"], caption=caption)


def label_scores(runs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return label, positives and the mean scores of each label over the runs; None where a run has no score."""
    recorded = [run["per_label"] for run in runs if run.get("per_label")]
    return [
        {
            "label": same[0]["label"],
            "positives": same[0]["positives"],
            **{name: _mean([formatting.json_number(one[name]) for one in same]) for name in SCORES},
        }
        for same in zip(*recorded, strict=True)
    ]


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if len(known) == len(values) else None


def _residuals(runs: Sequence[Mapping[str, Any]]) -> list[Block]:
    recorded = next((run["residuals"] for run in runs if run.get("residuals")), None)
    if not recorded:
        return []
    shown = list(recorded.items())[:MOST_TARGETS]
    panels = [chart for name, one in shown for chart in _residual_panels(name, one)]
    subset = f" The first {MOST_TARGETS} of {len(recorded)} targets." if len(recorded) > MOST_TARGETS else ""
    points = max(len(one["true"]) for _, one in shown)
    caption = (
        f"The exported model on {points:,} test {examples_of(runs[0])}: predicted against true values (dashed: equal),"
        f" and the distribution of the residuals, predicted minus true.{subset}"
    )
    return [Figure("residuals", caption, panels, height=360)]


def _residual_panels(name: str, one: Mapping[str, Sequence[float]]) -> list[Chart]:
    pairs = list(zip(one["true"], one["predicted"], strict=True))
    ends = min(map(min, pairs)), max(map(max, pairs))
    points = [
        Point(true, predicted, f"true {formatting.metric(true)}, predicted {formatting.metric(predicted)}")
        for true, predicted in pairs
    ]
    scatter = Chart(
        f"{name}: predicted against true",
        Axis("true"),
        Axis("predicted"),
        [
            Series(
                name="equal", points=[Point(end, end) for end in ends], style="dashed", colour=GREY, width=1.2
            ),
            Series(name="predicted", points=points, style="points", width=1.8, opacity=0.6),
        ],
    )
    outline = _histogram([predicted - true for true, predicted in pairs])
    counts = Series(name="residuals", points=outline, colour=BLUE)
    return [scatter, Chart(f"{name}: residuals", Axis("predicted - true"), Axis("count"), [counts])]


def _histogram(values: Sequence[float]) -> list[Point]:
    """Return the outline of a histogram, two points for each bin."""
    import numpy as np

    counts, edges = np.histogram(values, bins=BINS)
    outline = [Point(float(edges[0]), 0.0)]
    for count, left, right in zip(counts, edges, edges[1:], strict=False):
        label = f"{formatting.metric(float(left))} to {formatting.metric(float(right))}: {count}"
        outline += [Point(float(left), float(count), label), Point(float(right), float(count), label)]
    return [*outline, Point(float(edges[-1]), 0.0)]
