"""Configurations as points for a Gaussian process, and candidates at random or near a configuration."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from objectives.base import Params
from objectives.spaces.choices import contains, position
from objectives.spaces.space import conditions_of, is_active, parents_first

Floats = npt.NDArray[np.floating[Any]]

CHANGED = 0.3
"""Probability that a parameter of a neighbour differs."""
WIDTH = 0.15
"""Standard deviation of a number's change, as a part of its range."""

Encode = Callable[[Any], tuple[float, ...]]


class Encoding:
    """The parameters of a space as coordinates.

    A number is scaled to 0..1, on a logarithmic scale where its distribution is; choices that are all positive numbers
    are ordered by their logarithms, and others have a coordinate each. An inactive parameter lies in the middle, and so
    does a value that the space no longer has; a number outside a narrowed range lies outside 0..1.
    """

    def __init__(self, space: Mapping[str, BaseDistribution]) -> None:
        self._space = {name: space[name] for name in parents_first(space)}
        self._whole = space
        self._conditional = bool(conditions_of(space))
        self._encode = {name: _encoder(dist) for name, dist in self._space.items()}
        self._absent = {name: _absent(dist) for name, dist in self._space.items()}

    def points(self, configurations: Sequence[Mapping[str, Any]]) -> Floats:
        """Return the coordinates of configurations: (n, d)."""
        rows = [
            [
                one
                for name, encode in self._encode.items()
                for one in (encode(params[name]) if name in params else self._absent[name])
            ]
            for params in configurations
        ]
        return np.array(rows, dtype=np.float64).reshape(len(rows), sum(map(len, self._absent.values())))

    def draw(self, count: int, rng: np.random.Generator) -> list[Params]:
        """Return configurations at random."""
        columns = {name: _values(dist, rng.random(count)) for name, dist in self._space.items()}
        return self._configurations(columns)

    def near(self, params: Mapping[str, Any], count: int, rng: np.random.Generator) -> list[Params]:
        """Return configurations that differ from one in some parameters."""
        columns: dict[str, list[Any]] = {}
        for name, dist in self._space.items():
            known = name in params and contains(dist, params[name])
            changed = rng.random(count) < CHANGED
            if known and isinstance(dist, FloatDistribution | IntDistribution):
                (place,) = self._encode[name](params[name])
                moved = np.where(changed, place + rng.normal(0, WIDTH, count), place)
                values = _values(dist, np.clip(moved, 0, np.nextafter(1, 0)))
                columns[name] = [
                    value if other else params[name] for value, other in zip(values, changed, strict=True)
                ]
            else:
                drawn = _values(dist, rng.random(count))
                columns[name] = [
                    value if other or not known else params[name]
                    for value, other in zip(drawn, changed, strict=True)
                ]
        return self._configurations(columns)

    def _configurations(self, columns: Mapping[str, list[Any]]) -> list[Params]:
        return [
            self._active(dict(zip(columns, row, strict=True))) for row in zip(*columns.values(), strict=True)
        ]

    def _active(self, params: Params) -> Params:
        if not self._conditional:
            return params
        found: Params = {}
        for name in self._space:
            if name in params and is_active(self._whole, name, found):
                found[name] = params[name]
        return found


def _encoder(dist: BaseDistribution) -> Encode:
    match dist:
        case CategoricalDistribution(choices=choices):
            numbers = _logarithms(choices)
            if numbers is not None:
                low, width = min(numbers), max(numbers) - min(numbers) or 1.0
                return lambda value: ((math.log(value) - low) / width,) if _is_positive(value) else (0.5,)
            size = len(choices) - (len(choices) == 2)
            rows = [tuple(float(index == place) for index in range(size)) for place in range(len(choices))]
            absent = _absent(dist)

            def encode(value: Any) -> tuple[float, ...]:
                place = position(dist, value)
                return absent if place is None else rows[place]

            return encode
        case FloatDistribution() | IntDistribution():
            low, high = _ends(dist)
            # Halves, because the width of the widest range is no float.
            width = high / 2 - low / 2 or 1.0
            if dist.log:
                return lambda value: ((math.log(max(value, 1e-300)) / 2 - low / 2) / width,)
            return lambda value: ((float(value) / 2 - low / 2) / width,)
    raise TypeError(f"{type(dist).__name__} is not modelled: use floats, integers and choices")


def _absent(dist: BaseDistribution) -> tuple[float, ...]:
    """Return the coordinates of a parameter without a value."""
    if isinstance(dist, CategoricalDistribution) and _logarithms(dist.choices) is None:
        size = len(dist.choices)
        return (0.5,) if size == 2 else (1 / size,) * size
    return (0.5,)


def _ends(dist: FloatDistribution | IntDistribution) -> tuple[float, float]:
    low, high = float(dist.low), float(dist.high)
    return (math.log(low), math.log(high)) if dist.log else (low, high)


def _values(dist: BaseDistribution, places: npt.ArrayLike) -> list[Any]:
    """Return the value of a parameter at each place from 0 to below 1."""
    at = np.asarray(places)
    if isinstance(dist, CategoricalDistribution):
        return [dist.choices[index] for index in (at * len(dist.choices)).astype(int)]
    assert isinstance(dist, FloatDistribution | IntDistribution)
    low, high = _ends(dist)
    values = low * (1 - at) + high * at
    values = np.exp(values) if dist.log else values
    if isinstance(dist, IntDistribution):
        return [_on_grid(dist, value) for value in values.tolist()]
    if dist.step is not None:
        values = dist.low + np.round((values - dist.low) / dist.step) * dist.step
    found: list[Any] = np.clip(values, dist.low, dist.high).tolist()
    return found


def _on_grid(dist: IntDistribution, value: float) -> int:
    """Return the nearest integer of a parameter, exactly also where floats have gaps between integers."""
    steps = round((value - dist.low) / dist.step)
    return min(max(dist.low + steps * dist.step, dist.low), dist.high)


def _logarithms(choices: Sequence[Any]) -> list[float] | None:
    return [math.log(choice) for choice in choices] if all(map(_is_positive, choices)) else None


def _is_positive(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < math.inf
