"""The search as sections: optimization history, learning curves, parallel coordinates and the trial table."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from itertools import accumulate

from hpo import formatting
from hpo.analysis.common_epoch import Comparison
from hpo.analysis.statistics import is_comparable
from hpo.document.charts import BLUE, CYAN, GREEN, GREY, OLIVE, ORANGE, RED, Axis, Chart, Point, Series, Style
from hpo.document.document import Block, Figure, Paragraph, Section, Table
from hpo.document.parts import section
from hpo.outcomes import Outcome
from hpo.report.findings import Findings
from hpo.search.space import describe_distribution, to_unit
from hpo.study.history import StudyHistory
from hpo.study.results.trials import OPEN, TrialRow

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


def search_sections(history: StudyHistory, findings: Findings) -> list[Section]:
    """Return the charts of the search; empty for a study without trials."""
    if not history.curves:
        return []
    return [
        *section("Optimization history", lambda: _progress(history)),
        *section("Learning curves", lambda: _curves(history)),
        *section("All parameters at once", lambda: _parallel(findings.comparison)),
    ]


def trial_table(history: StudyHistory) -> Block:
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
    own = ("trial", "state", "epochs", "time")
    [metric] = formatting.apart([history.study.metric], own, "metric_").values()
    headings = formatting.apart(names, (*own, metric), "param_").values()
    headers = ("trial", "state", metric, "epochs", "time", *headings)
    right = frozenset({"trial", metric, "epochs", "time"})
    return Table(headers, rows, right, caption) if rows else Paragraph("No trials yet.")


def _progress(history: StudyHistory) -> Figure:
    metric, rule = history.study.metric, history.study.value_rule
    ended = sorted(history.complete, key=lambda trial: trial.number or 0)
    cut = _ended_early(history)
    best = best_so_far(history)
    series = [
        Series(
            name="best so far",
            points=[Point(x, y, f"best so far {formatting.metric(y)}") for x, y in best],
            colour=GREEN,
        ),
        Series(
            name="complete",
            points=[Point(trial.number, trial.value, _label(trial, trial.value)) for trial in ended],
            style="points",
            width=3.0,
        ),
    ]
    if cut:
        series.append(
            Series(
                name=f"ended early (at its {rule} epoch)",
                points=[Point(trial.number, value, _label(trial, value)) for trial, value in cut],
                style="points",
                colour=ORANGE,
                width=2.6,
                marker="cross",
            )
        )
    values = [trial.value or 0.0 for trial in ended] + [value for _, value in cut]
    bounds, outside = zoomed(values, history.study.maximize)
    caption = (
        f"{metric} of every trial in the order of their start; trials that ended early at their {rule} epoch."
        + (f" {formatting.counted(outside, 'outlier')} outside the chart." if outside else "")
    )
    return Figure("history", caption, [Chart("", Axis("trial"), Axis(metric, bounds=bounds), series)])


def best_so_far(history: StudyHistory) -> list[tuple[int, float]]:
    """Return the best value up to each complete trial, with the trial's number."""
    ended = sorted(history.complete, key=lambda trial: trial.number or 0)
    values = accumulate((trial.value or 0.0 for trial in ended), max if history.study.maximize else min)
    return [(trial.number or 0, best) for trial, best in zip(ended, values, strict=True)]


def _ended_early(history: StudyHistory) -> list[tuple[TrialRow, float]]:
    """Return the trials that ended without completing, and the values that they had then."""
    return [
        (trial, judged.value)
        for trial in history.trials
        if trial.state not in (Outcome.COMPLETE, *OPEN)
        and (judged := history.judged(trial.number)) is not None
        and math.isfinite(judged.value)
    ]


def _curves(history: StudyHistory) -> Figure:
    metric, best = history.study.metric, history.best
    trials = [trial for trial in history.trials if trial.number in history.curves]
    shown = _most_relevant(history, trials)
    complete = [t for t in shown if t.state == Outcome.COMPLETE and t is not best]
    pruned = [t for t in shown if t.state == Outcome.PRUNED]
    timed_out = [t for t in shown if t.state == Outcome.TIMED_OUT]
    still_open = [t for t in shown if t.state in OPEN]
    others = (Outcome.COMPLETE, Outcome.PRUNED, Outcome.TIMED_OUT, *OPEN)
    failed = [t for t in shown if t.state not in others]
    leader = [best] if best is not None and best.number in history.curves else []
    series = [
        *_joined(history, complete, "complete", BLUE, opacity=0.55),
        *_joined(history, pruned, "pruned", ORANGE, opacity=0.75, ends=True),
        *_joined(history, timed_out, "timed out", OLIVE, opacity=0.75, ends=True),
        *_joined(history, still_open, "still open", GREY, opacity=0.9),
        *_joined(history, failed, "failed, diverged or infeasible", RED, opacity=0.8),
        *_joined(history, leader, "best", GREEN, width=3.0),
    ]
    measured = [row.metrics.get(metric, math.nan) for t in shown for row in history.curves[t.number or 0]]
    bounds, outside = zoomed([value for value in measured if math.isfinite(value)], history.study.maximize)
    caption = (
        f"{metric} after each epoch of {len(shown)}"
        + (f" of {len(trials)}" if len(shown) < len(trials) else "")
        + " trials. A cross marks the end of a trial that was pruned or timed out."
        + (" Outliers are outside the chart." if outside else "")
    )
    axis = epoch_axis(int(history.study.spec_json["epochs"]))
    chart = Chart("", axis, Axis(metric, bounds=bounds), series)
    return Figure("learning-curves", caption, [chart], height=420)


def _most_relevant(history: StudyHistory, trials: Sequence[TrialRow]) -> Sequence[TrialRow]:
    """Return all trials, or the best and the latest of very many."""
    if len(trials) <= MOST_CURVES:
        return trials
    ranked = sorted(history.complete, key=lambda t: t.value or 0.0, reverse=history.study.maximize)
    leaders = {trial.number for trial in ranked[: MOST_CURVES // 2]}
    rest = [trial for trial in trials if trial.number not in leaders]
    kept = leaders | {trial.number for trial in rest[-(MOST_CURVES - len(leaders)) :]}
    return [trial for trial in trials if trial.number in kept]


def _joined(
    history: StudyHistory,
    members: Sequence[TrialRow],
    name: str,
    colour: str,
    *,
    width: float = 1.4,
    opacity: float = 1.0,
    ends: bool = False,
) -> list[Series]:
    """Return the curves of several trials as one series with gaps, and their ends as another if `ends`."""
    if not members:
        return []
    points, last = [], []
    for trial in members:
        rows = history.curves[trial.number or 0]
        for row in rows:
            value = row.metrics.get(history.study.metric)
            label = f"trial {trial.number}, epoch {row.epoch}: {formatting.metric(value)}"
            points.append(Point(row.epoch, value, label))
        value = value if value is not None and math.isfinite(value) else None
        last.append(Point(rows[-1].epoch, value, _label(trial, value)))
        points.append(Point())
    single = len(points) == 2 * len(members)
    style: Style = "line and points" if single and not ends else "line"
    found = [Series(name=name, points=points, style=style, colour=colour, width=width, opacity=opacity)]
    if ends:
        found.append(
            Series(
                name=name, points=last, style="points", colour=colour, width=2.6, legend=False, marker="cross"
            )
        )
    return found


def _parallel(comparison: Comparison) -> Figure | None:
    names = comparison.varied
    if len(comparison.trials) < 2 or len(names) < 2:
        return None
    ordered = sorted(comparison.trials, key=lambda one: one.value, reverse=not comparison.maximize)
    lowest, highest = sorted((ordered[0].value, ordered[-1].value))
    groups: dict[int, list[Point]] = {}
    for rank, one in enumerate(ordered):
        value = (one.value - lowest) / (highest - lowest) if highest > lowest else 0.5
        params = one.trial.params
        line = [
            *(to_unit(params[name], comparison.space[name]) if name in params else None for name in names),
            value,
        ]
        label = _label(one.trial, one.value)
        points = groups.setdefault(rank * len(_RAMP) // len(ordered), [])
        points += [*(Point() if y is None else Point(x, y, label) for x, y in enumerate(line)), Point()]
    series = []
    for step, points in sorted(groups.items()):
        share = {0: "worst sixth", len(_RAMP) - 1: "best sixth"}.get(step, "")
        is_best = step == len(_RAMP) - 1
        series.append(
            Series(
                name=share or "between",
                points=points,
                colour=_RAMP[step],
                width=2.6 if is_best else 1.4,
                opacity=1.0 if is_best else 0.6,
                legend=bool(share),
            )
        )
    ranges = "; ".join(f"{name} {describe_distribution(comparison.space[name])}" for name in names)
    caption = (
        f"One line for each trial, coloured by rank. Each axis runs from low (bottom) to high (top): {ranges};"
        f" {comparison.metric} {formatting.metric(lowest)} to {formatting.metric(highest)}. {comparison.describe()}"
    )
    ticks = [(float(place), name) for place, name in enumerate([*names, comparison.metric])]
    axis = Axis(ticks=ticks, bounds=(-0.3, len(names) + 0.3))
    chart = Chart("", axis, Axis(ticks=[(0.0, "low"), (1.0, "high")], bounds=(-0.05, 1.05)), series)
    return Figure("parallel", caption, [chart], height=440, page_only=True)


def epoch_axis(epochs: int) -> Axis:
    """Return an axis of epochs, with a tick at each if there are at most twelve."""
    ticks = [(float(epoch), str(epoch)) for epoch in range(1, epochs + 1)] if epochs <= 12 else []
    return Axis("epoch", ticks=ticks)


def zoomed(values: Sequence[float], maximize: bool) -> tuple[tuple[float, float] | None, int]:
    """Return axis bounds that leave out outliers on the worse side, and the number of values left out.

    Values that are too large to be drawn are left out too.
    """
    bounds, outside = _zoomed([value for value in values if is_comparable(value)], maximize)
    return bounds, outside + sum(not is_comparable(value) for value in values)


def _zoomed(values: Sequence[float], maximize: bool) -> tuple[tuple[float, float] | None, int]:
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
