"""The search as sections: optimization history, learning curves, parallel coordinates and the trial table."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from itertools import accumulate

from hpo import formatting
from hpo.analysis.common_epoch import Comparison
from hpo.document.charts import BLUE, CYAN, GREEN, GREY, OLIVE, ORANGE, RED, Axis, Chart, Series, Style
from hpo.document.document import Block, Figure, Paragraph, Section, Table
from hpo.outcomes import Outcome
from hpo.search.space_format import describe_distribution
from hpo.search.space_scaling import to_unit
from hpo.study.history import StudyHistory
from hpo.study.trials import TrialRow

MOST_CURVES = 200
"""Largest number of learning curves drawn; larger studies show the best and the latest trials."""
MOST_ROWS = 15
"""Trials in the table of a report; trials.csv has all of them."""

ZOOM_FROM = 20
"""Number of values from which outliers may lie outside a chart."""
ZOOM_SHARE = 0.9
"""Smallest share of the values that a chart shows."""

# From worst to best.
_RAMP = (GREY, OLIVE, ORANGE, CYAN, BLUE, GREEN)


def search_sections(history: StudyHistory, comparison: Comparison) -> list[Section]:
    """Return the charts of the search; empty for a study without trials."""
    if not history.curves:
        return []
    sections = [
        Section("Optimization history", _progress(history)),
        Section("Learning curves", [_curves(history)]),
    ]
    if len(comparison.trials) >= 2 and len(comparison.varied) >= 2:
        sections.append(Section("All parameters at once", [_parallel(comparison)]))
    return sections


def trial_table(history: StudyHistory) -> Section:
    """Return a table of the best trials, or of all trials of a small study."""
    sign = -1 if history.study.maximize else 1

    def order(trial: TrialRow) -> tuple[bool, bool, float]:
        value = trial.value if trial.value is not None and math.isfinite(trial.value) else None
        return trial.state != Outcome.COMPLETE, value is None, sign * (value or 0.0)

    names = history.parameters
    shown = sorted(history.trials, key=order)[:MOST_ROWS]
    caption = "Best first; trials.csv has all of them." if len(history.trials) > MOST_ROWS else "Best first."
    rows = [
        (
            "-" if trial.number is None else str(trial.number),
            trial.state,
            formatting.metric(trial.value),
            str(trial.epochs),
            formatting.duration(trial.seconds),
            *(formatting.parameter(trial.params[name]) if name in trial.params else "-" for name in names),
        )
        for trial in shown
    ]
    headers = ("trial", "state", history.study.metric, "epochs", "time", *names)
    right = frozenset({"trial", history.study.metric, "epochs", "time"})
    return Section(
        "Trials", [Table(headers, rows, right, caption)] if rows else [Paragraph("No trials yet.")]
    )


def _progress(history: StudyHistory) -> list[Block]:
    metric = history.study.metric
    pick = max if history.study.maximize else min
    ended = sorted(history.complete, key=lambda trial: trial.number or 0)
    best = list(accumulate((trial.value or 0.0 for trial in ended), pick))
    series = [
        Series(
            "best so far",
            [float(trial.number or 0) for trial in ended],
            best,
            "line",
            GREEN,
            labels=[f"best so far {formatting.metric(value)}" for value in best],
        ),
        Series(
            "complete",
            [float(trial.number or 0) for trial in ended],
            [trial.value for trial in ended],
            "points",
            BLUE,
            width=3.0,
            labels=[_label(trial, trial.value) for trial in ended],
        ),
    ]
    cut = _ended_early(history)
    if cut:
        series.append(
            Series(
                "ended early (at its last epoch)",
                [float(trial.number or 0) for trial, _ in cut],
                [value for _, value in cut],
                "points",
                ORANGE,
                width=2.6,
                labels=[_label(trial, value) for trial, value in cut],
                marker="cross",
            )
        )
    values = [trial.value or 0.0 for trial in ended] + [value for _, value in cut]
    bounds, outside = zoomed(values, history.study.maximize)
    caption = f"{metric} of every trial in the order of their start; pruned trials at their last epoch." + (
        f" {formatting.counted(outside, 'outlier')} outside the chart." if outside else ""
    )
    chart = Chart("", Axis("trial"), Axis(metric, bounds=bounds), series)
    return [Figure("history", caption, [chart])]


def _ended_early(history: StudyHistory) -> list[tuple[TrialRow, float]]:
    """Return the trials that ended without completing, and their metric after their last epoch."""
    metric = history.study.metric
    return [
        (trial, rows[-1].metrics[metric])
        for trial in history.trials
        if trial.number is not None
        and trial.state not in (Outcome.COMPLETE, "running", "waiting")
        and (rows := history.curves.get(trial.number))
        and math.isfinite(rows[-1].metrics.get(metric, math.nan))
    ]


def _curves(history: StudyHistory) -> Figure:
    metric, best = history.study.metric, history.best
    trials = [trial for trial in history.trials if trial.number in history.curves]
    shown = trials
    if len(trials) > MOST_CURVES:
        ranked = sorted(history.complete, key=lambda t: t.value or 0.0, reverse=history.study.maximize)
        leaders = {trial.number for trial in ranked[: MOST_CURVES // 2]}
        rest = [trial for trial in trials if trial.number not in leaders]
        kept = leaders | {trial.number for trial in rest[-(MOST_CURVES - len(leaders)) :]}
        shown = [trial for trial in trials if trial.number in kept]
    groups: list[tuple[str, str, float, float, list[TrialRow]]] = [
        ("complete", BLUE, 1.4, 0.55, [t for t in shown if t.state == Outcome.COMPLETE and t is not best]),
        ("pruned", ORANGE, 1.4, 0.75, [t for t in shown if t.state == Outcome.PRUNED]),
        ("still open", GREY, 1.4, 0.9, [t for t in shown if t.state in ("running", "waiting")]),
        (
            "failed or diverged",
            RED,
            1.4,
            0.8,
            [t for t in shown if t.state not in (Outcome.COMPLETE, Outcome.PRUNED, "running", "waiting")],
        ),
        ("best", GREEN, 3.0, 1.0, [best] if best is not None and best.number in history.curves else []),
    ]
    series = []
    for name, colour, width, opacity, members in groups:
        if members:
            series += _joined(history, members, name, colour, width, opacity, ends=name == "pruned")
    values = [
        row.metrics[metric]
        for trial in shown
        if trial.number is not None
        for row in history.curves[trial.number]
        if math.isfinite(row.metrics.get(metric, math.nan))
    ]
    bounds, outside = zoomed(values, history.study.maximize)
    caption = (
        f"{metric} after each epoch of {len(shown)}"
        + (f" of {len(trials)}" if len(shown) < len(trials) else "")
        + " trials. A cross marks the pruning of a trial."
        + (" Outliers are outside the chart." if outside else "")
    )
    axis = epoch_axis(int(history.study.spec_json["epochs"]))
    return Figure(
        "learning-curves", caption, [Chart("", axis, Axis(metric, bounds=bounds), series)], height=420
    )


def _joined(
    history: StudyHistory,
    members: Sequence[TrialRow],
    name: str,
    colour: str,
    width: float,
    opacity: float,
    *,
    ends: bool,
) -> list[Series]:
    """Return the curves of several trials as one series with gaps, and their ends as another if `ends`."""
    metric = history.study.metric
    x: list[float | None] = []
    y: list[float | None] = []
    labels: list[str] = []
    last_x: list[float | None] = []
    last_y: list[float | None] = []
    last_labels: list[str] = []
    for trial in members:
        rows = history.curves[trial.number or 0]
        for row in rows:
            value = row.metrics.get(metric)
            x.append(float(row.epoch))
            y.append(value if value is not None and math.isfinite(value) else None)
            labels.append(f"trial {trial.number}, epoch {row.epoch}: {formatting.metric(value)}")
        last_x.append(x[-1])
        last_y.append(y[-1])
        last_labels.append(_label(trial, y[-1]))
        x.append(None)
        y.append(None)
        labels.append("")
    single = all(len(history.curves[trial.number or 0]) == 1 for trial in members)
    style: Style = "line and points" if single and not ends else "line"
    found = [Series(name, x, y, style, colour, width=width, opacity=opacity, labels=labels)]
    if ends:
        found.append(
            Series(
                name,
                last_x,
                last_y,
                "points",
                colour,
                width=2.6,
                opacity=1.0,
                labels=last_labels,
                legend=False,
                marker="cross",
            )
        )
    return found


def _parallel(comparison: Comparison) -> Figure:
    names = comparison.varied
    ordered = sorted(comparison.trials, key=lambda one: one.value, reverse=not comparison.maximize)
    low, high = ordered[0].value, ordered[-1].value
    lowest, highest = min(low, high), max(low, high)
    places = [float(index) for index in range(len(names) + 1)]
    groups: dict[int, list[int]] = {}
    for rank in range(len(ordered)):
        groups.setdefault(rank * len(_RAMP) // len(ordered), []).append(rank)
    series = []
    for step, ranks in sorted(groups.items()):
        x: list[float | None] = []
        y: list[float | None] = []
        labels: list[str] = []
        for rank in ranks:
            one = ordered[rank]
            own = [to_unit(one.trial.params[name], comparison.space[name]) for name in names]
            value = (one.value - lowest) / (highest - lowest) if highest > lowest else 0.5
            x += [*places, None]
            y += [*own, value, None]
            labels += [_label(one.trial, one.value)] * (len(places)) + [""]
        share = {0: "worst sixth", len(_RAMP) - 1: "best sixth"}.get(step, "")
        series.append(
            Series(
                share or "between",
                x,
                y,
                "line",
                _RAMP[step],
                width=2.6 if step == len(_RAMP) - 1 else 1.4,
                opacity=1.0 if step == len(_RAMP) - 1 else 0.6,
                labels=labels,
                legend=bool(share),
            )
        )
    ranges = "; ".join(f"{name} {describe_distribution(comparison.space[name])}" for name in names)
    caption = (
        f"One line for each trial, coloured by rank. Each axis runs from low (bottom) to high (top): {ranges};"
        f" {comparison.metric} {formatting.metric(lowest)} to {formatting.metric(highest)}. {comparison.describe()}"
    )
    ticks = list(zip(places, [*names, comparison.metric], strict=True))
    axis = Axis(ticks=ticks, bounds=(-0.3, len(names) + 0.3))
    chart = Chart("", axis, Axis(ticks=[(0.0, "low"), (1.0, "high")], bounds=(-0.05, 1.05)), series)
    return Figure("parallel", caption, [chart], height=440, page_only=True)


def epoch_axis(epochs: int) -> Axis:
    """Return an axis of epochs, with a tick at each if there are at most twelve."""
    ticks = [(float(epoch), str(epoch)) for epoch in range(1, epochs + 1)] if epochs <= 12 else []
    return Axis("epoch", ticks=ticks)


def zoomed(values: Sequence[float], maximize: bool) -> tuple[tuple[float, float] | None, int]:
    """Return axis bounds that leave out outliers on the worse side, and the number of values left out."""
    if len(values) < ZOOM_FROM:
        return None, 0
    best = max(values) if maximize else min(values)
    distances = sorted(abs(best - value) for value in values)
    reach = max(4 * statistics.median(distances), distances[int(ZOOM_SHARE * (len(distances) - 1))])
    if reach == 0:
        return None, 0
    outside = sum(abs(value - best) > reach for value in values)
    if not outside:
        return None, 0
    margin = 0.06 * reach
    return ((best - reach, best + margin) if maximize else (best - margin, best + reach)), outside


def _label(trial: TrialRow, value: float | None) -> str:
    params = formatting.parameters(trial.params)
    return (
        f"trial {trial.number} ({trial.state}, {trial.epochs} epochs): {formatting.metric(value)}, {params}"
    )
