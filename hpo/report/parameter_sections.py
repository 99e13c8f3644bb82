"""Effects of hyperparameters as a section: effect sizes, importance, slices and contours of important pairs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations
from typing import Literal

from optuna.distributions import CategoricalDistribution

from hpo import formatting
from hpo.analysis.common_epoch import Comparison
from hpo.analysis.effects import MIN_TRIALS, Effect, parameter_of
from hpo.document.charts import BLUE, GREY, ORANGE, Axis, Bars, Chart, Point, Series, Surface
from hpo.document.document import Block, Figure, Paragraph, Section, Table
from hpo.document.parts import Part, section
from hpo.outcomes import Outcome
from hpo.report.findings import Findings
from hpo.report.trial_axes import drawn, subset, zoomed
from hpo.search.choice_text import labels
from hpo.search.space import from_unit, is_log, place_of, to_unit

MOST_PAIRS = 3
MOST_IMPORTANT = 3
"""Number of the most important numeric parameters whose pairs are drawn."""
_GRID = 40


def parameter_section(findings: Findings) -> list[Section]:
    """Return effects, importance, slices and contours, each only where there are enough trials."""

    def only_if_varied(part: Callable[[], Block | None]) -> Part:
        return lambda: part() if findings.comparison.varied else None

    parts = (
        lambda: _describe(findings.comparison),
        lambda: _effects(findings.effects),
        lambda: _importance(findings.importance, findings.effects),
        lambda: _slices(findings.comparison),
        lambda: _contours(findings.comparison, findings.importance),
        lambda: _too_few(findings.importance),
    )
    return section("Effects of hyperparameters", *map(only_if_varied, parts))


def _describe(comparison: Comparison) -> Paragraph:
    early = (
        " An early effect may not last until the end of training."
        if comparison.epoch < comparison.epochs_per_trial
        else ""
    )
    return Paragraph(comparison.describe() + early)


def _effects(effects: Sequence[Effect]) -> Table | None:
    rows = [(one.parameter, one.finding) for one in effects]
    return Table(("parameter", "effect"), rows) if rows else None


def _importance(importance: dict[str, float] | None, effects: Sequence[Effect]) -> Figure | None:
    if importance is None:
        return None
    total = sum(importance.values())
    clear = {parameter_of(one) for one in effects if one.stands_out}
    colours = [BLUE if name in clear else GREY for name in importance]
    bars = Bars("", list(importance), list(importance.values()), Axis("importance (PED-ANOVA)"), colours)
    return Figure(
        "importance",
        "Importance by how much the best tenth of the trials (at least five) agree in a parameter; grey: its effect is"
        f" not significant. The sum is {total:.0f}; it does not measure effect size, and parameters without effect also"
        " get a share.",
        [bars],
    )


def _too_few(importance: dict[str, float] | None) -> Paragraph | None:
    if importance is not None:
        return None
    return Paragraph(
        f"Importance and pairs of parameters need at least {MIN_TRIALS} compared trials: fewer would mostly"
        " show noise.",
        "note",
    )


def _slices(comparison: Comparison) -> Figure | None:
    names = comparison.varied
    if not names or not comparison.trials:
        return None
    bounds, _ = zoomed([one.value for one in comparison.trials], comparison.maximize)
    charts = [
        Chart(
            name,
            _axis(comparison, name, ""),
            Axis(comparison.metric, bounds=bounds),
            [
                *_slice(comparison, name, "complete", BLUE, early=False),
                *_slice(comparison, name, "ended early", ORANGE, early=True),
            ],
        )
        for name in names
    ]
    caption = (
        f"{comparison.subject} against each parameter. A visible trend may be due to "
        "another parameter, because the sampler tries good values of several parameters together."
        f"{subset(comparison)}"
    )
    return Figure("slices", caption, charts, height=280)


def _slice(comparison: Comparison, name: str, label: str, colour: str, *, early: bool) -> list[Series]:
    points = [
        Point(
            _coordinate(comparison, name, value := one.trial.params[name]),
            one.value,
            f"trial {one.trial.number}: {name} {formatting.parameter(value)}, {formatting.metric(one.value)}",
        )
        for one in drawn(comparison)
        if (one.trial.state != Outcome.COMPLETE) == early and name in one.trial.params
    ]
    marker: Literal["circle", "cross"] = "cross" if early else "circle"
    series = Series(
        name=label, points=points, style="points", colour=colour, width=2.6, opacity=0.85, marker=marker
    )
    return [series] if points else []


def _contours(comparison: Comparison, importance: dict[str, float] | None) -> Figure | None:
    if importance is None:
        return None
    numeric = [
        name for name in list(importance) if not isinstance(comparison.space[name], CategoricalDistribution)
    ][:MOST_IMPORTANT]
    panels = [_surface(comparison, first, second) for first, second in combinations(numeric, 2)]
    if not panels:
        return None
    caption = (
        f"{comparison.subject} over pairs of the most important numeric parameters, "
        f"interpolated linearly between the trials (points); other parameters vary too.{subset(comparison)}"
    )
    return Figure("contours", caption, panels[:MOST_PAIRS], height=340, page_only=True)


def _surface(comparison: Comparison, first: str, second: str) -> Surface:
    import numpy as np
    from scipy.interpolate import LinearNDInterpolator
    from scipy.spatial import QhullError
    from threadpoolctl import threadpool_limits

    spaces = comparison.space[first], comparison.space[second]
    trials = drawn(comparison)
    values = np.array([one.value for one in trials])
    # One outlier would leave a single colour for all other trials.
    bounds, _ = zoomed(values.tolist(), comparison.maximize)
    if bounds is not None:
        values = np.clip(values, *bounds)
    pairs = [(one.trial.params[first], one.trial.params[second]) for one in trials]
    places_of = [[to_unit(value, space) for value, space in zip(pair, spaces, strict=True)] for pair in pairs]
    points = [
        Point(*pair, f"trial {one.trial.number}: {formatting.metric(one.value)}")
        for pair, one in zip(pairs, trials, strict=True)
    ]
    places = np.linspace(0.0, 1.0, _GRID)
    grid: list[list[float | None]] = [[None] * _GRID for _ in range(_GRID)]
    try:
        # It solves a system of two equations for each triangle: threads would wait for one another most of the time.
        with threadpool_limits(limits=1, user_api="blas"):
            found = LinearNDInterpolator(np.array(places_of), values)(*np.meshgrid(places, places))
        grid = [[None if np.isnan(cell) else float(cell) for cell in row] for row in found]
    except QhullError:
        pass  # All points lie on a line: there is no area to interpolate.
    return Surface(
        title="",
        x=_axis(comparison, first, first),
        y=_axis(comparison, second, second),
        points=Series(name=comparison.metric, points=points, style="points"),
        values=values.tolist(),
        value_title=comparison.metric,
        grid_x=[float(from_unit(place, spaces[0])) for place in places],
        grid_y=[float(from_unit(place, spaces[1])) for place in places],
        grid=grid,
    )


def _coordinate(comparison: Comparison, name: str, value: object) -> float:
    distribution = comparison.space[name]
    if isinstance(distribution, CategoricalDistribution):
        return float(place_of(value, distribution))
    return float(value)  # type: ignore[arg-type]


def _axis(comparison: Comparison, name: str, title: str) -> Axis:
    distribution = comparison.space[name]
    if isinstance(distribution, CategoricalDistribution):
        ticks = [(float(index), text) for index, text in enumerate(labels(distribution))]
        return Axis(title, ticks=ticks, bounds=(-0.5, len(ticks) - 0.5))
    return Axis(title, log=is_log(distribution))
