"""Learning curves of the trials of a search."""

from __future__ import annotations

import math
from collections.abc import Sequence

from hpo import formatting
from hpo.analysis.figures import base_of
from hpo.document.charts import BLUE, GREEN, GREY, OLIVE, ORANGE, RED, Axis, Chart, Point, Series, Style
from hpo.document.document import Figure
from hpo.outcomes import Outcome
from hpo.report.trial_axes import epoch_axis, trial_label, zoomed
from hpo.study.history import StudyHistory
from hpo.study.results.trials import OPEN, TrialRow

MOST_CURVES = 200
"""Largest number of learning curves drawn; larger studies show the best and the latest trials."""


MOST_POINTS = 10_000
"""Points of all learning curves, beyond which not every epoch is drawn."""


def curves(history: StudyHistory) -> Figure:
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
    step = -(-sum(len(history.curves[t.number or 0]) for t in shown) // MOST_POINTS) or 1
    series = [
        *_joined(history, complete, "complete", BLUE, opacity=0.55, step=step),
        *_joined(history, pruned, "pruned", ORANGE, opacity=0.75, ends=True, step=step),
        *_joined(history, timed_out, "timed out", OLIVE, opacity=0.75, ends=True, step=step),
        *_joined(history, still_open, "still open", GREY, opacity=0.9, step=step),
        *_joined(history, failed, "failed, diverged or infeasible", RED, opacity=0.8, step=step),
        *_joined(history, leader, "best", GREEN, width=3.0, step=step),
    ]
    measured = [row.metrics.get(metric, math.nan) for t in shown for row in history.curves[t.number or 0]]
    bounds, outside = zoomed([value for value in measured if math.isfinite(value)], history.study.maximize)
    caption = (
        f"{metric} after each epoch of {len(shown)}"
        + (f" of {len(trials)}" if len(shown) < len(trials) else "")
        + " trials. A cross marks the end of a trial that was pruned or timed out."
        + (f" One of {step} epochs is drawn." if step > 1 else "")
        + (" Outliers are outside the chart." if outside else "")
    )
    axis = epoch_axis(int(history.study.spec_json["epochs"]))
    chart = Chart("", axis, Axis(metric, bounds=bounds), series)
    return Figure("learning-curves", caption, [chart], height=420)


def best_trial(history: StudyHistory) -> Figure | None:
    """Return training and validation of the best trial, a chart for the loss and one for the study's metric."""
    best = history.best
    rows = history.curves.get(best.number or 0, []) if best is not None else []
    if best is None or not rows:
        return None
    reported = {name for row in rows for name in row.metrics}
    bases = dict.fromkeys(["loss", base_of(history.study.metric)])
    shown = [base for base in bases if {base, f"val_{base}"} <= reported]
    style: Style = "line and points" if len(rows) == 1 else "line"

    def curve(name: str, title: str, colour: str) -> Series:
        points = [Point(row.epoch, value := row.metrics.get(name), formatting.metric(value)) for row in rows]
        return Series(name=title, points=points, style=style, colour=colour)

    axis = epoch_axis(max(row.epoch for row in rows))
    charts = [
        Chart(base, axis, Axis(), [curve(base, "training", BLUE), curve(f"val_{base}", "validation", ORANGE)])
        for base in shown
    ]
    caption = f"Training and validation of the best trial, {best.number}, after each epoch."
    return Figure("best-trial", caption, charts, height=320) if charts else None


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
    step: int = 1,
) -> list[Series]:
    """Return the curves of several trials as one series with gaps, and their ends as another if `ends`.

    Of `step` epochs one is drawn, and the last.
    """
    if not members:
        return []
    points, last = [], []
    for trial in members:
        rows = history.curves[trial.number or 0]
        for row in rows[(len(rows) - 1) % step :: step]:
            value = row.metrics.get(history.study.metric)
            label = f"trial {trial.number}, epoch {row.epoch}: {formatting.metric(value)}"
            points.append(Point(row.epoch, value, label))
        value = value if value is not None and math.isfinite(value) else None
        last.append(Point(rows[-1].epoch, value, trial_label(trial, value)))
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
