"""Charts of an experiment: the effect of each parameter's values with intervals, and of pairs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution

from hpo import formatting
from hpo.analysis.ablation.contrasts import Contrast
from hpo.analysis.ablation.effects import PairCell, PairEffect
from hpo.analysis.ablation.verdicts import Class, ParameterEffect, ValueEffect
from hpo.document.charts import BLUE, GREEN, GREY, ORANGE, RED, Axis, Chart, Point, Series, colour_of
from hpo.document.document import Figure
from hpo.report.ablation.text import Wording
from hpo.search.choice_text import labels
from hpo.search.space import is_log, place_of
from objectives.spaces.choices import identity

REACH = 8.0
"""Height of a chart below zero in margins or half intervals, whichever is larger: more is drawn at its edge."""

COLOURS = {
    Class.BASE: GREY,
    Class.BETTER: GREEN,
    Class.WORSE: RED,
    Class.EQUAL: BLUE,
    Class.SAME: BLUE,
    Class.OPEN: ORANGE,
    Class.UNSTABLE: RED,
    Class.FAILED: RED,
}
NAMES = {
    Class.BETTER: "better",
    Class.WORSE: "worse",
    Class.EQUAL: "no difference that matters",
    Class.OPEN: "not decided",
}


def dose_response(wording: Wording) -> Figure | None:
    """Return a chart for each parameter: the effect of its values compared with the base."""
    effects = [effect for effect in wording.ablation.parameters if _is_drawn(effect)]
    if not effects:
        return None
    charts = [_parameter(wording, effect) for effect in effects]
    caption = (
        f"Effect of each value in {wording.unit}, compared with the base (grey, at zero), with simultaneous 95 %"
        " intervals; above zero is better. Between the dashed lines, a difference does not matter. Crosses at the"
        " lower edge are worse than the chart shows, or ended without a value."
    )
    return Figure("ablation", caption, charts, height=280)


def _is_drawn(effect: ParameterEffect) -> bool:
    return any(one.kind is not Class.MISSING for one in effect.others)


def _floor(wording: Wording, contrasts: Sequence[Contrast]) -> float:
    """Return the lowest effect that a chart shows, in units of the metric."""
    halves = [(one.interval[1] - one.interval[0]) / 2 for one in contrasts if one.interval is not None]
    reach = REACH * max([wording.ablation.margin, *halves, 1e-12])
    lowest = min((one.effect for one in contrasts if math.isfinite(one.effect)), default=-reach)
    return -reach if lowest < -reach else min(lowest, -2 * wording.ablation.margin) - reach / 10


def _parameter(wording: Wording, effect: ParameterEffect) -> Chart:
    distribution = wording.ablation.space.get(effect.parameter)
    if effect.parameter in wording.ablation.design.recipe:
        distribution = None
    contrasts = [one.contrast for one in effect.others if one.contrast is not None]
    floor = _floor(wording, contrasts)
    places = [_place(one.value, distribution, index) for index, one in enumerate(effect.values)]
    bounds = _x_bounds(places, distribution)
    series = [
        _level(wording, bounds, 0.0, "line"),
        *(
            _level(wording, bounds, level, "dashed")
            for level in (-wording.ablation.margin, wording.ablation.margin)
            if level
        ),
        _line(wording, effect, places, floor),
    ]
    for kind, name in NAMES.items():
        series += _values(wording, effect, places, floor, kind, name)
    series += _edge(wording, effect, places, floor)
    series.append(
        Series(
            name="base",
            points=[
                Point(place, 0.0, f"base: {formatting.parameter(one.value)}")
                for place, one in zip(places, effect.values, strict=True)
                if one.kind is Class.BASE
            ],
            style="points",
            colour=GREY,
            width=3.4,
        )
    )
    ticks = _ticks(effect, distribution)
    axis = Axis("", log=distribution is not None and is_log(distribution), ticks=ticks, bounds=bounds)
    tops = [one.interval[1] for one in contrasts if one.interval is not None and one.effect >= floor]
    top = max([0.0, wording.ablation.margin, *tops])
    height = top - floor
    y_bounds = wording.scaled(floor - 0.04 * height), wording.scaled(top + 0.08 * height)
    return Chart(effect.parameter, axis, Axis(wording.unit, bounds=y_bounds), series)


def _place(value: Any, distribution: BaseDistribution | None, index: int) -> float:
    if distribution is None:
        return float(index)
    if isinstance(distribution, CategoricalDistribution):
        return float(place_of(value, distribution))
    return float(value)


def _x_bounds(places: Sequence[float], distribution: BaseDistribution | None) -> tuple[float, float]:
    low, high = min(places), max(places)
    if distribution is None or isinstance(distribution, CategoricalDistribution):
        return low - 0.5, high + 0.5
    if is_log(distribution):
        step = (high / low) ** 0.06
        return low / step, high * step
    step = 0.06 * (high - low)
    return low - step, high + step


def _ticks(effect: ParameterEffect, distribution: BaseDistribution | None) -> list[tuple[float, str]]:
    if distribution is None:
        return [(float(index), formatting.parameter(one.value)) for index, one in enumerate(effect.values)]
    if isinstance(distribution, CategoricalDistribution):
        return [(float(index), text) for index, text in enumerate(labels(distribution))]
    return []


def _level(wording: Wording, bounds: tuple[float, float], level: float, style: Any) -> Series:
    points = [Point(place, wording.scaled(level)) for place in bounds]
    return Series(name="", points=points, style=style, colour=GREY, width=1.0, opacity=0.7, legend=False)


def _line(wording: Wording, effect: ParameterEffect, places: Sequence[float], floor: float) -> Series:
    """Return a thin line through the effects."""
    points = []
    for place, one in zip(places, effect.values, strict=True):
        found = 0.0 if one.contrast is None else one.contrast.effect
        points.append(
            Point(place, wording.scaled(found) if math.isfinite(found) and found >= floor else None)
        )
    return Series(name="", points=points, colour=GREY, width=1.2, opacity=0.6, legend=False)


def _values(
    wording: Wording, effect: ParameterEffect, places: Sequence[float], floor: float, kind: Class, name: str
) -> list[Series]:
    """Return the effects of one class, and their intervals as vertical lines."""
    points, bars = [], []
    for place, one in zip(places, effect.values, strict=True):
        contrast = one.contrast
        shown = Class.EQUAL if one.kind is Class.SAME else one.kind
        if (
            shown is not kind
            or contrast is None
            or not math.isfinite(contrast.effect)
            or contrast.effect < floor
        ):
            continue
        label = (
            f"{effect.parameter} {formatting.parameter(one.value)}: {wording.effect(contrast)} {wording.unit}"
        )
        points.append(Point(place, wording.scaled(contrast.effect), label))
        if contrast.interval is not None:
            low, high = contrast.interval
            bars += [
                Point(place, wording.scaled(max(low, floor)), label),
                Point(place, wording.scaled(high), label),
                Point(),
            ]
    if not points:
        return []
    colour = COLOURS[kind]
    return [
        Series(name=name, points=bars, colour=colour, width=1.8, opacity=0.8, legend=False),
        Series(name=name, points=points, style="points", colour=colour, width=3.0),
    ]


def _edge(wording: Wording, effect: ParameterEffect, places: Sequence[float], floor: float) -> list[Series]:
    """Return the values that lie below the chart, or have none."""
    points = []
    for place, one in zip(places, effect.values, strict=True):
        if one.kind in (Class.BASE, Class.MISSING) or one.contrast is None:
            continue
        found = one.contrast.effect
        if one.kind in (Class.FAILED, Class.UNSTABLE) or not math.isfinite(found) or found < floor:
            points.append(Point(place, wording.scaled(floor), _edge_label(wording, effect, one)))
    if not points:
        return []
    return [
        Series(
            name="far worse or unstable",
            points=points,
            style="points",
            colour=RED,
            width=3.2,
            marker="cross",
        )
    ]


def _edge_label(wording: Wording, effect: ParameterEffect, one: ValueEffect) -> str:
    assert one.contrast is not None
    shown = (
        f"{one.failed} runs ended without a value"
        if one.kind is Class.FAILED
        else f"{wording.effect(one.contrast)} {wording.unit}"
    )
    return f"{effect.parameter} {formatting.parameter(one.value)}: {shown}"


def pair_charts(wording: Wording) -> Figure | None:
    """Return a chart for each pair: the effect of the second parameter for each value of the first."""
    charts = [_pair(wording, effect) for effect in wording.ablation.interactions]
    if not charts:
        return None
    caption = (
        f"Effect in {wording.unit}, compared with the base, of pairs that vary together: one line for each value of the"
        " first parameter. Lines that peak at different places mean that the two are to be tuned together. Crosses at"
        " the lower edge are worse than the chart shows, or ended without a value."
    )
    return Figure("ablation-pairs", caption, charts, height=320)


def _pair(wording: Wording, effect: PairEffect) -> Chart:
    space = wording.ablation.space
    second = space[effect.second]
    contrasts = [cell.against_base for cell in effect.cells if cell.against_base is not None]
    floor = _floor(wording, contrasts)
    firsts = list({identity(cell.first): cell.first for cell in effect.cells}.values())
    if isinstance(space[effect.first], CategoricalDistribution):
        firsts.sort(key=lambda value: place_of(value, space[effect.first]))  # type: ignore[arg-type]
    else:
        firsts.sort()
    series = []
    for index, first in enumerate(firsts):
        cells = [cell for cell in effect.cells if identity(cell.first) == identity(first)]
        cells.sort(key=lambda cell: _place(cell.second, second, 0))
        name = f"{effect.first} {formatting.parameter(first)}"
        series += _row(wording, effect, cells, floor, name, colour_of(index))
    places = [_place(cell.second, second, 0) for cell in effect.cells]
    ticks = (
        [(float(index), text) for index, text in enumerate(labels(second))]
        if isinstance(second, CategoricalDistribution)
        else []
    )
    axis = Axis(effect.second, log=is_log(second), ticks=ticks, bounds=_x_bounds(places, second))
    top = max([0.0, *(one.effect for one in contrasts if math.isfinite(one.effect))])
    height = top - floor
    bounds = wording.scaled(floor - 0.04 * height), wording.scaled(top + 0.08 * height)
    return Chart(f"{effect.first} and {effect.second}", axis, Axis(wording.unit, bounds=bounds), series)


def _row(
    wording: Wording, effect: PairEffect, cells: Sequence[PairCell], floor: float, name: str, colour: str
) -> list[Series]:
    second = wording.ablation.space[effect.second]
    points, below = [], []
    for cell in cells:
        place = _place(cell.second, second, 0)
        contrast = cell.against_base
        found = 0.0 if contrast is None else contrast.effect
        shown = "base" if contrast is None else f"{wording.effect(contrast)} {wording.unit}"
        label = f"{name}, {effect.second} {formatting.parameter(cell.second)}: {shown}"
        is_inside = math.isfinite(found) and found >= floor and cell.kind is not Class.FAILED
        points.append(Point(place, wording.scaled(found) if is_inside else None, label))
        if not is_inside and cell.kind is not Class.MISSING:
            below.append(Point(place, wording.scaled(floor), label))
    line = Series(name=name, points=points, style="line and points", colour=colour, width=2.2)
    crosses = Series(
        name=name, points=below, style="points", colour=colour, width=2.8, marker="cross", legend=False
    )
    return [line, crosses] if below else [line]
