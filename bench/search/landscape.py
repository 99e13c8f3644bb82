"""Configurations become learning curves: a Gaussian process fitted to a table, or the table's nearest row.

A sampler proposes configurations that no table holds. The nearest free row of 300 is far away in five dimensions
(its final error differs by 1.5 times the noise between seeds on mnist-cnn), and the best ones are soon used up.
Therefore curves come from a surrogate: Gaussian processes over the parameters for the main components of the curves,
and residuals of the table's own curves as noise. The regret is that of the surrogate's mean, which has no noise.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from scipy.stats import qmc

from bench.search.curves import CurveTable, Floats

COMPONENTS = 4
"""Principal components of the curves; the rest is noise."""
FLOOR = 0.002
"""Added to errors before their logarithm."""
NEIGHBOURS = 20
"""Rows of similar final value, from which noise is drawn."""
CANDIDATES = 2**14
"""Points of the space whose best one has a regret of zero."""


@dataclass(frozen=True)
class Curve:
    """The training of one configuration."""

    params: Mapping[str, Any]
    """The configuration that is trained, which is not the proposed one for a table's rows."""
    values: Floats
    """(E,), the metric after each epoch, with noise."""
    regret: float
    """Distance of the final value, without noise if possible, from the best possible one."""
    seconds: float
    """Seconds of an epoch."""


class Landscape(Protocol):
    """A source of curves for one search."""

    table: CurveTable
    start_seconds: float
    """Seconds to start or resume a trial."""

    def curve(self, params: Mapping[str, Any], rng: np.random.Generator) -> Curve: ...


class Rows:
    """The rows of a table, each used once: the nearest free one is trained instead of a proposal."""

    def __init__(self, table: CurveTable) -> None:
        self.table = table
        self.start_seconds = start_seconds(table)
        self._points = features(table.space, table.configurations)
        self._used: set[int] = set()
        final = _signed(table)[:, -1]
        self._regrets = np.nanmax(final) - final

    def curve(self, params: Mapping[str, Any], rng: np.random.Generator) -> Curve:  # noqa: ARG002
        point = features(self.table.space, internal(self.table.space, params)[None])[0]
        distances = ((self._points - point) ** 2).sum(1)
        distances[list(self._used)] = np.inf
        row = int(distances.argmin())
        self._used.add(row)
        return Curve(
            external(self.table.space, self.table.configurations[row]),
            self.table.values[row],
            float(self._regrets[row]),
            float(np.median(self.table.seconds[row])),
        )


@dataclass
class Surrogate:
    """Gaussian processes over a table's curves."""

    table: CurveTable
    start_seconds: float = field(init=False)
    noise: float = field(init=False)
    """Standard deviation of the final value between seeds, on the transformed scale."""

    def __post_init__(self) -> None:
        table = self.table
        self.start_seconds = start_seconds(table)
        self._points = features(table.space, table.configurations)
        curves = to_scale(table)
        self._mean = curves.mean(0)
        _, _, self._axes = np.linalg.svd(curves - self._mean, full_matrices=False)
        self._axes = self._axes[:COMPONENTS]
        scores = (curves - self._mean) @ self._axes.T
        self._fits = [_fit(self._points, column) for column in scores.T]
        fitted = self._means(self._points)
        residuals = curves - fitted
        self.noise = float(
            np.sqrt(sum(f.noise * a[-1] ** 2 for f, a in zip(self._fits, self._axes, strict=True)))
        )
        self._residuals = residuals * (self.noise / max(1e-9, residuals[:, -1].std()))
        self._fitted = fitted[:, -1]
        self._seconds = np.median(table.seconds, axis=1)
        points = qmc.Sobol(len(table.space), seed=0).random(CANDIDATES)
        grid = np.array([from_unit(table.space, point) for point in points])
        means = np.concatenate(
            [self._means(features(table.space, part))[:, -1] for part in np.split(grid, 16)]
        )
        self.best = from_scale(table, np.array([max(means.max(), self._fitted.max())]))[0]

    def _means(self, points: Floats) -> Floats:
        scores = np.stack([fit.predict(self._points, points) for fit in self._fits], axis=1)
        return self._mean + scores @ self._axes  # type: ignore[no-any-return]

    def curve(self, params: Mapping[str, Any], rng: np.random.Generator) -> Curve:
        point = features(self.table.space, internal(self.table.space, params)[None])
        mean = self._means(point)[0]
        near = np.argsort(np.abs(self._fitted - mean[-1]))[:NEIGHBOURS]
        values = from_scale(self.table, mean + self._residuals[rng.choice(near)])
        final = from_scale(self.table, mean[-1:])[0]
        sign = 1.0 if self.table.maximize else -1.0
        row = ((self._points - point) ** 2).sum(1).argmin()
        return Curve(params, values, max(0.0, sign * (self.best - final)), float(self._seconds[row]))


@dataclass(frozen=True)
class _Fit:
    """A fitted Gaussian process with a Matérn 5/2 kernel."""

    mean: float
    scales: Floats
    weights: Floats
    """(n,), of the kernel's values at the table's points."""
    noise: float
    """Variance of the noise, in units of the target."""

    def predict(self, known: Floats, points: Floats) -> Floats:
        distances = np.sqrt((((points[:, None] - known) / self.scales) ** 2).sum(-1)) * np.sqrt(5.0)
        kernel = (1 + distances + distances**2 / 3) * np.exp(-distances)
        return self.mean + kernel @ self.weights  # type: ignore[no-any-return]


def _fit(points: Floats, target: Floats) -> _Fit:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

    kernel = ConstantKernel(1.0, (1e-2, 1e3)) * Matern(
        [1.0] * points.shape[1], (0.05, 20.0), nu=2.5
    ) + WhiteKernel(0.05, (1e-4, 1.0))
    mean, spread = float(target.mean()), float(target.std()) or 1.0
    with warnings.catch_warnings():
        # A parameter without an effect has a length at its bound.
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = GaussianProcessRegressor(kernel).fit(points, (target - mean) / spread)
    signal = model.kernel_.k1
    return _Fit(
        mean,
        np.atleast_1d(signal.k2.length_scale),
        model.alpha_.ravel() * signal.k1.constant_value * spread,
        model.kernel_.k2.noise_level * spread**2,
    )


def start_seconds(table: CurveTable) -> float:
    """Return the time to build a model and compile its first step: how much longer first epochs take."""
    if table.epochs < 2:
        return 0.0
    return max(0.0, float(np.median(table.seconds[:, 0] - np.median(table.seconds[:, 1:], axis=1))))


def to_scale(table: CurveTable) -> Floats:
    """Return the curves on a scale where noise is even and more is better: minus the logarithm of the error."""
    signed = _signed(table)
    worst = np.nanmin(signed)
    filled = np.where(np.isfinite(signed), signed, worst)
    return -np.log((1.0 if table.maximize else 0.0) - filled + FLOOR)


def from_scale(table: CurveTable, scaled: Floats) -> Floats:
    """Invert `to_scale`, within the metric's bounds."""
    error = np.maximum(0.0, np.exp(-scaled) - FLOOR)
    return np.maximum(0.0, 1.0 - error) if table.maximize else error


def _signed(table: CurveTable) -> Floats:
    return table.values if table.maximize else -table.values


def internal(space: Mapping[str, BaseDistribution], params: Mapping[str, Any]) -> Floats:
    """Return a configuration in Optuna's internal form."""
    return np.array([dist.to_internal_repr(params[name]) for name, dist in space.items()], dtype=np.float64)


def external(space: Mapping[str, BaseDistribution], row: Floats) -> dict[str, Any]:
    """Invert `internal`."""
    return {
        name: dist.to_external_repr(value)
        for (name, dist), value in zip(space.items(), row.tolist(), strict=True)
    }


def features(space: Mapping[str, BaseDistribution], rows: Floats) -> Floats:
    """Return each configuration as a point of the unit cube: (n, d), choices without an order one-hot."""
    columns: list[Floats] = []
    for column, dist in zip(rows.T, space.values(), strict=True):
        match dist:
            case CategoricalDistribution(choices=choices) if all(_positive(choice) for choice in choices):
                numbers = np.log([float(choice) for choice in choices])  # type: ignore[arg-type]
                columns.append(_unit(numbers[column.astype(int)], numbers.min(), numbers.max()))
            case CategoricalDistribution(choices=choices):
                columns += [
                    (column == index).astype(np.float64)
                    for index in range(len(choices) - (len(choices) == 2))
                ]
            case FloatDistribution() | IntDistribution():
                low, high = float(dist.low), float(dist.high)
                columns.append(
                    _unit(np.log(column), np.log(low), np.log(high)) if dist.log else _unit(column, low, high)
                )
            case _:
                raise TypeError(
                    f"{type(dist).__name__} has no place in a table: use floats, integers, choices"
                )
    return np.stack(columns, axis=1)


def from_unit(space: Mapping[str, BaseDistribution], point: Floats) -> Floats:
    """Return the configuration, in internal form, at a point of the unit cube with one coordinate a parameter."""
    row = []
    for place, dist in zip(point.tolist(), space.values(), strict=True):
        match dist:
            case CategoricalDistribution(choices=choices):
                row.append(float(int(place * len(choices))))
            case FloatDistribution() | IntDistribution():
                low, high = float(dist.low), float(dist.high)
                value = low * (high / low) ** place if dist.log else low + (high - low) * place
                row.append(round(value) if isinstance(dist, IntDistribution) else value)
    return np.array(row)


def _positive(choice: Any) -> bool:
    return isinstance(choice, int | float) and not isinstance(choice, bool) and choice > 0


def _unit(column: Floats, low: float, high: float) -> Floats:
    return (column - low) / (high - low or 1.0)
