"""Charts as plain values, from which HTML pages and PNG pictures are drawn alike."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from math import ceil, floor, log10
from typing import Literal, NamedTuple

# Medium lightness stands out from light and dark pages.
BLUE, ORANGE, GREEN, PURPLE, RED, GREY = "#3b82c4", "#dd7a33", "#3a9d6e", "#8f6cc2", "#cf4b4b", "#8a8f98"
CYAN, OLIVE, PINK, BROWN = "#2fa3b0", "#a08a1f", "#d873b0", "#8c6248"
SERIES_COLOURS = (BLUE, ORANGE, GREEN, PURPLE, RED, CYAN, OLIVE, GREY, PINK, BROWN)
"""Colours to distinguish series: ten, as many as digits or CIFAR-10 have classes."""


def colour_of(index: int) -> str:
    """Return the colour of a series by its index; colours repeat after the last."""
    return SERIES_COLOURS[index % len(SERIES_COLOURS)]


Style = Literal["line", "dashed", "points", "line and points"]


@dataclass(frozen=True)
class Axis:
    """An axis of a chart."""

    title: str = ""
    log: bool = False
    ticks: Sequence[tuple[float, str]] = ()
    """Positions and labels of the ticks; empty: chosen when drawing."""
    bounds: tuple[float, float] | None = None
    """Lowest and highest value shown; None: the range of the data."""


def with_ticks(axis: Axis, values: Iterable[float | None]) -> Axis:
    """Return a logarithmic axis with ticks at powers of ten; if it has less than two, at others of each decade.

    Other axes, and those with ticks, are returned as they are.
    """
    drawn = [value for value in values if value is not None and value > 0]
    if not axis.log or axis.ticks or not drawn:
        return axis
    low, high = axis.bounds or (min(drawn), max(drawn))
    decades = range(floor(log10(low)), ceil(log10(high)) + 1)
    powers = [power for power in decades if low <= 10.0**power <= high]
    if len(powers) > 1:
        chosen = powers[:: ceil(len(powers) / MOST_POWERS)]
        plain = chosen[0] >= -3 and chosen[-1] <= 4
        return replace(
            axis, ticks=[(10.0**power, f"{10.0**power:g}" if plain else f"1e{power}") for power in chosen]
        )
    inside: list[float] = []
    for digits in ((1, 2, 5), range(1, 10)):
        steps = [10.0**power * digit for power in decades for digit in digits]
        inside = inside if len(inside) > 1 else [step for step in steps if low <= step <= high]
    # Of a range that is too narrow for two ticks, the ends.
    places = inside if len(inside) > 1 else sorted({low, *inside, high})
    return replace(axis, ticks=[(place, f"{place:.3g}") for place in places])


MOST_POWERS = 6
"""Largest number of powers of ten with a tick."""
MOST_DRAWN = 1e150
"""Largest coordinate: the ranges of axes exceed the largest float with larger ones."""


class Point(NamedTuple):
    """A point of a series; a coordinate that is None, not finite or beyond `MOST_DRAWN` interrupts the line."""

    x: float | None = None
    y: float | None = None
    label: str = ""
    """Hover text; empty: the coordinates."""


@dataclass(frozen=True, kw_only=True)
class Series:
    """Points drawn as one line or group."""

    name: str
    points: Sequence[Point]
    style: Style = "line"
    colour: str = BLUE
    width: float = 2.0
    """Line width in pixels; points are three times as large."""
    opacity: float = 1.0
    legend: bool = True
    marker: Literal["circle", "cross"] = "circle"

    def coordinates(self) -> tuple[list[float | None], list[float | None]]:
        """Return x and y of all points, with None for values that cannot be drawn."""
        return [_finite(point.x) for point in self.points], [_finite(point.y) for point in self.points]


@dataclass(frozen=True)
class Chart:
    """Series over two axes."""

    title: str
    x: Axis
    y: Axis
    series: Sequence[Series]

    def axes_with_ticks(self) -> tuple[Axis, Axis]:
        """Return both axes, with ticks where logarithmic ones would have too few."""
        drawn = [series.coordinates() for series in self.series]
        x = [value for values, _ in drawn for value in values]
        y = [value for _, values in drawn for value in values]
        return with_ticks(self.x, x), with_ticks(self.y, y)


@dataclass(frozen=True)
class Bars:
    """Horizontal bars, the first name on top."""

    title: str
    names: Sequence[str]
    values: Sequence[float]
    x: Axis = field(default_factory=Axis)
    colours: Sequence[str] = ()
    """Colour of each bar; empty: blue."""


@dataclass(frozen=True, kw_only=True)
class Matrix:
    """Cells shaded by a value and labelled with a text."""

    title: str
    rows: Sequence[str]
    columns: Sequence[str]
    shades: Sequence[Sequence[float]]
    """Shade of each cell, 0 to 1."""
    texts: Sequence[Sequence[str]]
    x: Axis = field(default_factory=Axis)
    y: Axis = field(default_factory=Axis)


@dataclass(frozen=True, kw_only=True)
class Surface:
    """Values at points of a plane, interpolated on a grid; only an HTML page shows it."""

    title: str
    x: Axis
    y: Axis
    points: Series
    values: Sequence[float]
    """Value at each point."""
    value_title: str
    grid_x: Sequence[float]
    grid_y: Sequence[float]
    grid: Sequence[Sequence[float | None]]
    """One row for each of `grid_y`; None outside the points."""


def confusion_panel(title: str, confusion: Sequence[Sequence[int]], names: Sequence[str]) -> Matrix:
    """Return a confusion matrix, each cell shaded by its share of the true class."""
    return Matrix(
        title=title,
        rows=names,
        columns=names,
        shades=[[cell / max(1, sum(row)) for cell in row] for row in confusion],
        texts=[[str(cell) if cell else "" for cell in row] for row in confusion],
        x=Axis("predicted"),
        y=Axis("true"),
    )


def _finite(value: float | None) -> float | None:
    return float(value) if value is not None and abs(value) <= MOST_DRAWN else None


Panel = Chart | Bars | Matrix | Surface
