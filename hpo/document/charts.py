"""Charts as plain values, so that a page and a picture of the same chart cannot differ in what they show."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

# Of middling lightness, so that they stand out from a light page and from a dark one.
BLUE, ORANGE, GREEN, PURPLE, RED, GREY = "#3b82c4", "#dd7a33", "#3a9d6e", "#8f6cc2", "#cf4b4b", "#8a8f98"
CYAN, OLIVE = "#2fa3b0", "#a08a1f"
SERIES_COLOURS = (BLUE, ORANGE, GREEN, PURPLE, RED, CYAN, OLIVE, GREY)
"""For series that only need to be told apart."""

Style = Literal["line", "dashed", "points", "line and points"]


@dataclass(frozen=True)
class Axis:
    """One axis."""

    title: str = ""
    log: bool = False
    ticks: Sequence[tuple[float, str]] = ()
    """Places and their labels, where the numbers themselves say nothing; empty: chosen by the drawing."""
    bounds: tuple[float, float] | None = None
    """Lowest and highest shown; None: what the data needs."""


@dataclass(frozen=True)
class Series:
    """Points that belong together. A None in `y`, or what is not finite, interrupts the line."""

    name: str
    x: Sequence[float | None]
    y: Sequence[float | None]
    style: Style = "line"
    colour: str = BLUE
    width: float = 2.0
    """Of the line, in pixels; three times it is the size of a point."""
    opacity: float = 1.0
    labels: Sequence[str] = ()
    """What is shown when a point is pointed at, one each; empty: its numbers."""
    legend: bool = True
    marker: Literal["circle", "star", "cross"] = "circle"

    def points(self) -> tuple[list[float | None], list[float | None]]:
        """`x` and `y` with None for whatever cannot be drawn."""
        return [_finite(value) for value in self.x], [_finite(value) for value in self.y]


@dataclass(frozen=True)
class Chart:
    """Series over two axes."""

    title: str
    x: Axis
    y: Axis
    series: Sequence[Series]


@dataclass(frozen=True)
class Bars:
    """A horizontal bar for each name, the first on top."""

    title: str
    names: Sequence[str]
    values: Sequence[float]
    x: Axis = field(default_factory=Axis)
    colour: str = BLUE


@dataclass(frozen=True)
class Matrix:
    """Cells shaded by a value and labelled with a text."""

    title: str
    rows: Sequence[str]
    columns: Sequence[str]
    shades: Sequence[Sequence[float]]
    """0 to 1."""
    texts: Sequence[Sequence[str]]
    x: Axis = field(default_factory=Axis)
    y: Axis = field(default_factory=Axis)


@dataclass(frozen=True)
class Surface:
    """Values known at some points of a plane, and interpolated between them."""

    title: str
    x: Axis
    y: Axis
    points: Series
    values: Sequence[float]
    """At the points."""
    value_title: str
    grid_x: Sequence[float]
    grid_y: Sequence[float]
    grid: Sequence[Sequence[float | None]]
    """A row for each of `grid_y`; None where nothing is known."""


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


Panel = Chart | Bars | Matrix | Surface
