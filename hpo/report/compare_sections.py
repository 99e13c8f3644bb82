"""A comparison of studies as a document: final figures, learning curves, cost."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any

from hpo import formatting
from hpo.analysis.figures import METRICS, amount, base_of, label_of
from hpo.analysis.statistics import mean
from hpo.document.charts import Axis, Chart, Point, Series, Style, colour_of
from hpo.document.document import Block, Bullets, Document, Figure, Paragraph, Table
from hpo.document.parts import attempt, section
from hpo.report import compare_tasks
from hpo.report.cost import cost_of
from hpo.report.search_sections import best_so_far
from hpo.report.study_comparison import (
    PairwiseDifference,
    StudyComparison,
    StudyResult,
    better_high,
    comparability_warnings,
    differ_in_task,
)
from hpo.report.trial_axes import epoch_axis


def build_document(compared: StudyComparison) -> Document:
    """Return the comparison as a document."""
    results = compared.results
    never = [result.name for result in results if not result.runs]
    status = [
        f"{name} was never retrained, so it has no test figures: hpo retrain --study {name}" for name in never
    ]
    status += attempt("The list of warnings", lambda: comparability_warnings(results), lambda line: [line])
    names = ", ".join(result.name for result in results)
    return Document(
        f"Comparison of {names}",
        "For each study, its latest retrain of the configuration that its search chose, or else its latest retrain.",
        [
            *section(
                "Final figures",
                lambda: _verdicts(compared),
                lambda: final_table(results, compared.figure),
                lambda: compare_tasks.figure_table(results),
                lambda: _differences(compared),
                lambda: compare_tasks.label_table(results),
                lambda: compare_tasks.curves(results),
                lambda: compare_tasks.errors(results),
            ),
            *section(
                "Learning curves",
                lambda: _final_curves(results),
                lambda: _seeds(results, compared.figure),
                lambda: _best_so_far(results),
            ),
            *section("Cost", lambda: _cost(results)),
        ],
        "Written by hpo compare.",
        status,
    )


def verdict(
    pair: PairwiseDifference, metric: str, maximize: bool | None = True, compared: Sequence[float] = ()
) -> str:
    """Return the difference of one pair of `compared` values as a sentence.

    `maximize` is None where it is unknown which is better.
    """
    mean = pair.difference.mean
    noise = {
        None: "; there are too few seeds to estimate seed noise",
        True: ": more than seed noise",
        False: ": within seed noise",
    }[pair.exceeds_noise]
    if math.isclose(mean, 0.0, abs_tol=1e-9):
        return f"{pair.first} and {pair.second} tie{noise}."
    leads = (mean > 0) is (maximize is not False)
    better, worse = (pair.first, pair.second) if leads else (pair.second, pair.first)
    size = amount(abs(mean), metric, compared)
    size = "less than 0.1 points" if size == "0.0 points" else size
    side = "below" if maximize is False else "above"
    # A lower error is better, which "below" alone would leave to the reader.
    better_is = f" in {label_of(metric)}, where lower is better" if maximize is False else ""
    return f"{better} is {size} {side} {worse}{better_is}{noise}."


def _verdicts(compared: StudyComparison) -> list[Block]:
    if not compared.pairs:
        return []
    figure = str(compared.figure)
    maximize = better_high(compared.results, figure)
    values = _values(compared.results, figure)
    lead, *others = (verdict(pair, figure, maximize, values) for pair in compared.pairs)
    return [Paragraph(lead, "lead"), *([Bullets(others)] if others else [])]


def _differences(compared: StudyComparison) -> list[Block]:
    if compared.figure is None or not compared.pairs:
        return []
    note = (
        "Intervals of differences are Welch intervals over seeds; p-values are corrected for the number of pairs"
        " (Holm). Neither covers the choice of the test examples."
    )
    values = _values(compared.results, compared.figure)
    return [difference_table(compared.pairs, compared.figure, values), Paragraph(note, "note")]


def _values(results: Sequence[StudyResult], figure: str) -> list[float]:
    """Return a figure of all final runs of all studies."""
    return [value for result in results for value in result.values(figure)]


def final_table(results: Sequence[StudyResult], figure: str | None) -> Table:
    """Return a table with one row for each study."""
    flipped = any(result.values("test_accuracy_flip_averaged") for result in results)
    rows = []
    for result in results:
        row = {"study": result.name, "objective": result.history.study.objective.rpartition("/")[2]}
        if figure is not None:
            one = result.summary(figure)
            row[label_of(figure)] = one.shown_mean if one is not None else "-"
            row["95 % interval"] = one.shown_interval if one is not None else "-"
            row["seeds"] = str(one.n) if one is not None else "-"
        if flipped:
            average = result.summary("test_accuracy_flip_averaged")
            row["flip-averaged"] = formatting.metric(average.mean if average is not None else None)
        parameters = result.runs[0].get("parameters") if result.runs else None
        row["parameters"] = f"{parameters:,}" if parameters is not None else "-"
        row["epochs"] = str(result.metrics.get("epochs", "-"))
        best, metric = result.history.best, result.history.study.metric
        at = " (best epoch)" if result.history.study.value_rule == "best" else ""
        row["best validation"] = f"{metric} {formatting.metric(best.value)}{at}" if best is not None else "-"
        rows.append(row)
    return Table.of(rows, text=["study", "objective"])


def difference_table(
    pairs: Sequence[PairwiseDifference], figure: str, compared: Sequence[float] = ()
) -> Table:
    """Return a table with one row for each pair of studies."""

    def signed(value: float) -> str:
        return ("-" if value < 0 else "+") + amount(abs(value), figure, compared)

    rows = [
        {
            "difference": f"{pair.first} - {pair.second}",
            label_of(figure): signed(pair.difference.mean),
            "95 % interval": " to ".join(map(signed, pair.difference.interval95 or ())) or "-",
            "p": formatting.p_value(pair.p_value),
            "exceeds noise": {None: "unknown", True: "yes", False: "no"}[pair.exceeds_noise],
        }
        for pair in pairs
    ]
    return Table.of(rows, text=["difference", "exceeds noise"])


def _best_so_far(results: Sequence[StudyResult]) -> Figure | None:
    searched = []
    for index, result in enumerate(results):
        points = best_so_far(result.history)
        style: Style = "line and points" if len(points) == 1 else "line"
        if points:
            searched.append(Series(name=result.name, points=points, style=style, colour=colour_of(index)))
    metrics = {(result.history.study.metric, result.history.study.value_rule) for result in results}
    if not searched or len(metrics) > 1 or differ_in_task(results):
        return None
    chart = Chart("", Axis("trial"), Axis(metrics.pop()[0]), searched)
    return Figure("best-so-far", "Best complete trial so far during the search.", [chart], height=340)


def _final_curves(results: Sequence[StudyResult]) -> Figure | None:
    """Return a training metric by epoch and by seconds: the studies' own, or else the first that all reported."""
    rows = {
        index: result.metrics.get("detail", {}).get("history", [])
        for index, result in enumerate(results)
        if result.runs
    }
    shared = (
        name
        for name in (*(base_of(result.history.study.metric) for result in results), *METRICS)
        if all(history and all(name in row["metrics"] for row in history) for history in rows.values())
    )
    # A loss of another task is of another kind.
    name = next(shared, None) if rows and not differ_in_task(results) else None
    if name is None:
        return None
    by_epoch: list[Series] = []
    by_time: list[Series] = []
    for index, history in rows.items():
        at: dict[int, list[Mapping[str, Any]]] = {}
        for row in sorted(history, key=lambda row: row["epoch"]):
            at.setdefault(row["epoch"], []).append(row)
        means = [mean([float(row["metrics"][name]) for row in same]) for same in at.values()]
        seconds = accumulate(statistics.fmean(row["seconds"] for row in same) for same in at.values())
        for found, x in ((by_epoch, at), (by_time, seconds)):
            points = [Point(*place) for place in zip(x, means, strict=True)]
            found.append(Series(name=results[index].name, points=points, colour=colour_of(index)))
    most = max(len(series.points) for series in by_epoch)
    charts = [
        Chart(f"training {name} by epoch", epoch_axis(most), Axis(), by_epoch),
        Chart(f"training {name} by time", Axis("seconds"), Axis(), by_time),
    ]
    caption = "The final runs on their training data, mean over seeds, by epoch and by training time."
    return Figure("final-curves", caption, charts, height=320)


def _seeds(results: Sequence[StudyResult], figure: str | None) -> Figure | None:
    if figure is None:
        return None
    title, series = label_of(figure), []
    ticks: list[tuple[float, str]] = []
    for index, result in enumerate(results):
        values = result.values(figure)
        if not values:
            continue
        place = float(len(ticks))
        ticks.append((place, result.name))
        points = [
            Point(place, value, f"{result.name}, seed {run['seed']}: {formatting.metric(value)}")
            for run, value in zip(result.runs, values, strict=True)
        ]
        series.append(
            Series(
                name=result.name,
                points=points,
                style="points",
                colour=colour_of(index),
                width=3.4,
                opacity=0.85,
                legend=False,
            )
        )
    chart = Chart("", Axis(ticks=ticks, bounds=(-0.6, len(ticks) - 0.4)), Axis(title), series)
    return Figure("seeds", f"{title} of each final run.", [chart], height=320, width=520)


def _cost(results: Sequence[StudyResult]) -> Table:
    rows = []
    for result in results:
        cost = cost_of(result.history)
        per_seed = [run["seconds"] for run in result.runs if run["seconds"] is not None]
        hardware = result.metrics.get("hardware", {})
        cores = formatting.counted(hardware.get("cores"), "core")
        rows.append(
            {
                "study": result.name,
                "trials": str(sum(cost.trials.values())),
                "epochs": str(cost.epochs),
                "search": formatting.duration(cost.wall_seconds),
                "epochs saved by pruning": "-"
                if cost.saved_share is None
                else f"{100 * cost.saved_share:.0f} %",
                "training, a seed": formatting.duration(statistics.fmean(per_seed) if per_seed else None),
                "retrained on": f"{hardware.get('processor')}, {cores}" if hardware else "-",
            }
        )
    return Table.of(rows, text=["study", "retrained on"])
