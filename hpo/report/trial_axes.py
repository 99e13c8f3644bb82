"""Axes and hover texts of charts of trials."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from hpo import formatting
from hpo.analysis.common_epoch import Compared, Comparison
from hpo.analysis.statistics import is_comparable
from hpo.document.charts import Axis
from hpo.study.results.trials import TrialRow

ZOOM_FROM = 20
"""Number of values from which outliers may lie outside a chart."""
ZOOM_SHARE = 0.9
"""Smallest share of the values that a chart shows."""


MOST_POINTS = 400
"""Largest number of trials in a chart of parameters: a page stays small with any number of trials."""


def drawn(comparison: Comparison) -> Sequence[Compared]:
    """Return all trials, or of very many an even choice by their rank, from the best to the worst."""
    trials = comparison.trials
    if len(trials) <= MOST_POINTS:
        return trials
    places = sorted(range(len(trials)), key=lambda place: trials[place].value, reverse=comparison.maximize)
    last, steps = len(places) - 1, MOST_POINTS - 1
    return [trials[place] for place in sorted(places[index * last // steps] for index in range(MOST_POINTS))]


def subset(comparison: Comparison) -> str:
    """Return a sentence on the trials that `drawn` leaves out; empty if it leaves out none."""
    count = len(comparison.trials)
    if count <= MOST_POINTS:
        return ""
    return f" {MOST_POINTS} of {count:,} trials are drawn, chosen evenly by rank."


def epoch_axis(epochs: int) -> Axis:
    """Return an axis of epochs."""
    return whole_axis("epoch", 1, epochs)


def whole_axis(title: str, first: int, last: int) -> Axis:
    """Return an axis of whole numbers, with a tick at each if there are at most twelve."""
    ticks = [(float(number), str(number)) for number in range(first, last + 1)] if last - first < 12 else []
    return Axis(title, ticks=ticks)


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


def trial_label(trial: TrialRow, value: float | None) -> str:
    params = formatting.parameters(trial.params)
    return (
        f"trial {trial.number} ({trial.state}, {trial.epochs} epochs): {formatting.metric(value)}, {params}"
    )
