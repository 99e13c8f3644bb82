"""A comparison of studies as a document: final figures, learning curves, cost."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any

from hpo import formatting
from hpo.analysis.effects import amount
from hpo.document.charts import SERIES_COLOURS, Axis, Chart, Series, Style
from hpo.document.document import Block, Bullets, Document, Figure, Paragraph, Section, Table
from hpo.report.cost import cost_of
from hpo.report.search_sections import epoch_axis
from hpo.report.study_comparison import FIGURES, PairwiseDifference, StudyResult, comparability_warnings


def build_document(
    results: Sequence[StudyResult], figure: str | None, pairs: Sequence[PairwiseDifference]
) -> Document:
    """Return the comparison as a document."""
    sections = [Section("Final figures", _final(results, figure, pairs))]
    curves = _curves(results, figure)
    if curves:
        sections.append(Section("Learning curves", curves))
    sections.append(Section("Cost", [_cost(results)]))
    never = [result.name for result in results if not result.runs]
    status = [
        f"{name} was never retrained, so it has no test figures: hpo retrain --study {name}" for name in never
    ]
    status += comparability_warnings(results)
    names = ", ".join(result.name for result in results)
    return Document(
        f"Comparison of {names}",
        "For each study, its latest retrain of the configuration that its search chose, or else its latest retrain.",
        sections,
        "Written by hpo compare.",
        status,
    )


def verdict(pair: PairwiseDifference, metric: str) -> str:
    """Return the difference of one pair as a sentence."""
    mean = pair.difference.mean
    noise = {
        None: "; there are too few seeds to estimate seed noise",
        True: ": more than seed noise",
        False: ": within seed noise",
    }[pair.exceeds_noise]
    if math.isclose(mean, 0.0, abs_tol=1e-9):
        return f"{pair.first} and {pair.second} tie{noise}."
    better, worse = (pair.first, pair.second) if mean > 0 else (pair.second, pair.first)
    size = amount(abs(mean), metric)
    size = "less than 0.1 points" if size == "0.0 points" else size
    return f"{better} is {size} above {worse}{noise}."


def _final(
    results: Sequence[StudyResult], figure: str | None, pairs: Sequence[PairwiseDifference]
) -> list[Block]:
    blocks: list[Block] = []
    if figure is not None:
        blocks += [Paragraph(verdict(pair, figure), "lead") for pair in pairs[:1]]
        blocks += [Bullets([verdict(pair, figure) for pair in pairs[1:]])] if len(pairs) > 1 else []
    blocks.append(final_table(results, figure))
    if figure is not None and pairs:
        blocks.append(difference_table(pairs, figure))
        blocks.append(
            Paragraph(
                "Intervals of differences are Welch intervals over seeds; p-values are corrected for the number of "
                "pairs (Holm). Neither covers the choice of the test images.",
                "note",
            )
        )
    return blocks


def final_table(results: Sequence[StudyResult], figure: str | None) -> Table:
    """Return a table with one row for each study."""
    flipped = any(result.values("test_accuracy_flip_averaged") for result in results)
    headers = ["study", "objective"]
    if figure is not None:
        headers += [FIGURES.get(figure, figure), "95 % interval", "seeds"]
    headers += ["flip-averaged"] if flipped else []
    headers += ["parameters", "epochs", "best validation"]
    rows = []
    for result in results:
        row = [result.name, result.history.study.objective.rpartition("/")[2]]
        if figure is not None:
            row += _interval_cells(result.summary(figure))
        if flipped:
            average = result.summary("test_accuracy_flip_averaged")
            row.append(formatting.metric(average["mean"]) if average is not None else "-")
        parameters = result.runs[0].get("parameters") if result.runs else None
        best = result.history.best
        rows.append(
            [
                *row,
                f"{parameters:,}" if parameters is not None else "-",
                str(result.metrics.get("epochs", "-")),
                f"{result.history.study.metric} {formatting.metric(best.value)}" if best is not None else "-",
            ]
        )
    return Table(headers, rows, frozenset(headers) - {"study", "objective"})


def difference_table(pairs: Sequence[PairwiseDifference], figure: str) -> Table:
    """Return a table with one row for each pair of studies."""
    rows = []
    for pair in pairs:
        bounds = pair.difference.interval95
        rows.append(
            (
                f"{pair.first} - {pair.second}",
                _signed(pair.difference.mean, figure),
                "-" if bounds is None else f"{_signed(bounds[0], figure)} to {_signed(bounds[1], figure)}",
                formatting.p_value(pair.p_value),
                {None: "unknown", True: "yes", False: "no"}[pair.exceeds_noise],
            )
        )
    headers = ("difference", FIGURES.get(figure, figure), "95 % interval", "p", "exceeds noise")
    return Table(headers, rows, frozenset(headers[1:4]))


def _signed(value: float, figure: str) -> str:
    return ("-" if value < 0 else "+") + amount(abs(value), figure)


def _interval_cells(found: Mapping[str, Any] | None) -> list[str]:
    """Return mean and deviation, interval and n of a figure as metrics.json holds it."""
    if found is None:
        return ["-", "-", "-"]
    spread, bounds = found["standard_deviation"], found["interval95"]
    return [
        formatting.metric(found["mean"]) + (f" ± {spread:.4f}" if spread is not None else ""),
        "-" if bounds is None else f"{formatting.metric(bounds[0])} to {formatting.metric(bounds[1])}",
        str(found["n"]),
    ]


def _curves(results: Sequence[StudyResult], figure: str | None) -> list[Block]:
    blocks: list[Block] = []
    final = _final_curves(results)
    if final:
        caption = "The final runs on their training images, mean over seeds, by epoch and by training time."
        blocks.append(Figure("final-curves", caption, final, height=320))
    if figure is not None:
        blocks.append(_seeds(results, figure))
    searched = []
    for result, colour in _coloured(results):
        ordered = sorted(result.history.complete, key=lambda trial: trial.number or 0)
        values = [trial.value or 0.0 for trial in ordered]
        best: list[float] = list(accumulate(values, max if result.history.study.maximize else min))
        if best:
            places = [float(trial.number or 0) for trial in ordered]
            style: Style = "line and points" if len(best) == 1 else "line"
            searched.append(Series(result.name, places, best, style, colour))
    metrics = {result.history.study.metric for result in results}
    if searched and len(metrics) == 1:
        chart = Chart("", Axis("trial"), Axis(metrics.pop()), searched)
        blocks.append(
            Figure("best-so-far", "Best complete trial so far during the search.", [chart], height=340)
        )
    return blocks


def _final_curves(results: Sequence[StudyResult]) -> list[Chart]:
    """Return the training accuracy, or else the loss, by epoch and by seconds, if all final runs reported it."""
    rows = {
        result.name: result.metrics.get("detail", {}).get("history", []) for result in results if result.runs
    }
    shared = [
        name
        for name in ("accuracy", "loss")
        if rows
        and all(history and all(name in row["metrics"] for row in history) for history in rows.values())
    ]
    charts = []
    for name in shared[:1]:
        by_epoch, by_time = [], []
        for result, colour in _coloured(results):
            history = rows.get(result.name)
            if not history:
                continue
            epochs = sorted({row["epoch"] for row in history})
            at = {epoch: [row for row in history if row["epoch"] == epoch] for epoch in epochs}
            means: list[float | None] = [
                statistics.fmean(float(row["metrics"][name]) for row in at[epoch]) for epoch in epochs
            ]
            seconds = list(
                accumulate(statistics.fmean(row["seconds"] for row in at[epoch]) for epoch in epochs)
            )
            by_epoch.append(Series(result.name, [float(epoch) for epoch in epochs], means, "line", colour))
            by_time.append(Series(result.name, list(seconds), means, "line", colour))
        most = max(len(series.x) for series in by_epoch)
        charts += [
            Chart(f"training {name} by epoch", epoch_axis(most), Axis(""), by_epoch),
            Chart(f"training {name} by time", Axis("seconds"), Axis(""), by_time),
        ]
    return charts


def _seeds(results: Sequence[StudyResult], figure: str) -> Figure:
    shown = [(result, colour) for result, colour in _coloured(results) if result.values(figure)]
    series = []
    for place, (result, colour) in enumerate(shown):
        values = result.values(figure)
        series.append(
            Series(
                result.name,
                [float(place)] * len(values),
                list(values),
                "points",
                colour,
                width=3.4,
                opacity=0.85,
                labels=[
                    f"{result.name}, seed {run['seed']}: {formatting.metric(value)}"
                    for run, value in zip(result.runs, values, strict=True)
                ],
                legend=False,
            )
        )
    ticks = [(float(place), result.name) for place, (result, _) in enumerate(shown)]
    chart = Chart(
        "", Axis(ticks=ticks, bounds=(-0.6, len(ticks) - 0.4)), Axis(FIGURES.get(figure, figure)), series
    )
    return Figure(
        "seeds", f"{FIGURES.get(figure, figure)} of each final run.", [chart], height=320, width=520
    )


def _coloured(results: Sequence[StudyResult]) -> list[tuple[StudyResult, str]]:
    return [(result, SERIES_COLOURS[index % len(SERIES_COLOURS)]) for index, result in enumerate(results)]


def _cost(results: Sequence[StudyResult]) -> Table:
    rows = []
    for result in results:
        cost = cost_of(result.history)
        per_seed = [run["seconds"] for run in result.runs]
        hardware = result.metrics.get("hardware", {})
        rows.append(
            (
                result.name,
                str(sum(cost.trials.values())),
                str(cost.epochs),
                formatting.duration(cost.wall_seconds),
                "-" if cost.saved_share is None else f"{100 * cost.saved_share:.0f} %",
                formatting.duration(statistics.fmean(per_seed)) if per_seed else "-",
                f"{hardware.get('processor')}, {formatting.counted(hardware.get('cores'), 'core')}"
                if hardware
                else "-",
            )
        )
    headers = (
        "study",
        "trials",
        "epochs",
        "search",
        "epochs saved by pruning",
        "training, a seed",
        "retrained on",
    )
    return Table(headers, rows, frozenset(headers[1:6]))
