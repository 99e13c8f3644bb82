"""The search as sections: optimization history, learning curves, parallel coordinates and the table of trials."""

from __future__ import annotations

import math
from itertools import accumulate

from hpo import formatting
from hpo.analysis.common_epoch import Comparison
from hpo.document.charts import (
    BLUE,
    CYAN,
    GREEN,
    GREY,
    OLIVE,
    ORANGE,
    PURPLE,
    Axis,
    Chart,
    Point,
    Series,
)
from hpo.document.document import Block, Figure, Paragraph, Section, Table
from hpo.document.parts import section
from hpo.outcomes import Outcome
from hpo.report.findings import Findings
from hpo.report.learning_curves import best_trial, curves
from hpo.report.trial_axes import drawn, subset, trial_label, whole_axis, zoomed
from hpo.search.space import describe_distribution, to_unit
from hpo.study.history import StudyHistory
from hpo.study.results.trials import OPEN, TrialRow

MOST_ROWS = 15
"""Trials in the table of a report; trials.csv has all of them."""

# From worst to best.
_RAMP = (GREY, OLIVE, ORANGE, CYAN, BLUE, GREEN)


def search_sections(history: StudyHistory, findings: Findings) -> list[Section]:
    """Return the charts of the search; empty for a study without trials."""
    if not history.curves:
        return section("Optimization history", lambda: _progress(history)) if history.added else []
    return [
        *section("Optimization history", lambda: _progress(history)),
        *section("Learning curves", lambda: curves(history), lambda: best_trial(history)),
        *section("All parameters at once", lambda: _parallel(findings.comparison)),
    ]


def trial_table(history: StudyHistory) -> Block:
    """Return a table of the best trials, or of all trials of a small study."""
    sign = -1 if history.study.maximize else 1

    trained = {id(trial) for trial in history.trials}

    def order(trial: TrialRow) -> tuple[bool, bool, bool, float]:
        value = trial.value if trial.value is not None and math.isfinite(trial.value) else None
        return id(trial) not in trained, trial.state != Outcome.COMPLETE, value is None, sign * (value or 0.0)

    names = history.parameters
    every = [*history.trials, *history.added]
    shown = sorted(every, key=order)[:MOST_ROWS]
    caption = "Best first; trials.csv has all of them." if len(every) > MOST_ROWS else "Best first."
    if history.added:
        caption += " Trials that were added or imported follow those that were trained here."
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
            points=best,
            colour=GREEN,
        ),
        Series(
            name="complete",
            points=[Point(trial.number, trial.value, trial_label(trial, trial.value)) for trial in ended],
            style="points",
            width=3.0,
        ),
    ]
    if cut:
        series.append(
            Series(
                name=f"ended early (at its {rule} epoch)",
                points=[Point(trial.number, value, trial_label(trial, value)) for trial, value in cut],
                style="points",
                colour=ORANGE,
                width=2.6,
                marker="cross",
            )
        )
    added = [trial for trial in history.added if trial.value is not None and math.isfinite(trial.value)]
    if added:
        points = [Point(trial.number, trial.value, trial_label(trial, trial.value)) for trial in added]
        series.append(
            Series(
                name="added or imported", points=points, style="points", colour=PURPLE, width=2.6, opacity=0.7
            )
        )
    values = [trial.value or 0.0 for trial in [*ended, *added]] + [value for _, value in cut]
    bounds, outside = zoomed(values, history.study.maximize)
    numbers = [int(point.x) for one in series for point in one.points if point.x is not None]
    trials = whole_axis("trial", min(numbers, default=0), max(numbers, default=0))
    caption = (
        f"{metric} of every trial in the order of their start; trials that ended early at their {rule} epoch."
        + (f" {formatting.counted(outside, 'outlier')} outside the chart." if outside else "")
    )
    return Figure("history", caption, [Chart("", trials, Axis(metric, bounds=bounds), series)])


def best_so_far(history: StudyHistory) -> list[Point]:
    """Return the best value up to each complete trial as steps, up to the last trial that has ended."""
    complete = sorted(history.complete, key=lambda trial: trial.number or 0)
    values = accumulate((trial.value or 0.0 for trial in complete), max if history.study.maximize else min)
    steps: list[tuple[int, float]] = []
    for trial, best in zip(complete, values, strict=True):
        number = trial.number or 0
        if steps and best != steps[-1][1]:
            steps.append((number, steps[-1][1]))
        steps.append((number, best))
    last = max((trial.number or 0 for trial in history.trials if trial.state not in OPEN), default=0)
    if steps and last > steps[-1][0]:
        steps.append((last, steps[-1][1]))
    return [Point(number, best, f"best so far {formatting.metric(best)}") for number, best in steps]


def _ended_early(history: StudyHistory) -> list[tuple[TrialRow, float]]:
    """Return the trials that ended without completing, and the values that they had then."""
    return [
        (trial, judged.value)
        for trial in history.trials
        if trial.state not in (Outcome.COMPLETE, *OPEN)
        and (judged := history.judged(trial.number)) is not None
        and math.isfinite(judged.value)
    ]


def _parallel(comparison: Comparison) -> Figure | None:
    names = comparison.varied
    if len(comparison.trials) < 2 or len(names) < 2:
        return None
    ordered = sorted(comparison.trials, key=lambda one: one.value, reverse=not comparison.maximize)
    lowest, highest = sorted((ordered[0].value, ordered[-1].value))
    groups: dict[int, list[Point]] = {}
    kept = set(map(id, drawn(comparison)))
    few = len(ordered) < len(_RAMP)
    ends = ("worst trial", "best trial") if few else ("worst sixth", "best sixth")
    for rank, one in enumerate(ordered):
        if id(one) not in kept:
            continue
        value = (one.value - lowest) / (highest - lowest) if highest > lowest else 0.5
        params = one.trial.params
        line = [
            *(to_unit(params[name], comparison.space[name]) if name in params else None for name in names),
            value,
        ]
        label = trial_label(one.trial, one.value)
        # Of few trials, the best and the worst one have the colours of the legend.
        step = rank * len(_RAMP) // len(ordered) if not few else rank * (len(_RAMP) - 1) // (len(ordered) - 1)
        points = groups.setdefault(step, [])
        points += [*(Point() if y is None else Point(x, y, label) for x, y in enumerate(line)), Point()]
    series = []
    for step, points in sorted(groups.items()):
        share = {0: ends[0], len(_RAMP) - 1: ends[1]}.get(step, "")
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
        f"{subset(comparison)}"
    )
    ticks = [(float(place), name) for place, name in enumerate([*names, comparison.metric])]
    axis = Axis(ticks=ticks, bounds=(-0.3, len(names) + 0.3))
    chart = Chart("", axis, Axis(ticks=[(0.0, "low"), (1.0, "high")], bounds=(-0.05, 1.05)), series)
    return Figure("parallel", caption, [chart], height=440, page_only=True)
