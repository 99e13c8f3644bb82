"""A Gaussian process over configuration and epoch, fitted by its marginal likelihood.

The kernel is that of a smooth function of the parameters times one that falls with the distance in time, so that a
curve resembles its neighbours' and its own past (Swersky et al., "Freeze-Thaw Bayesian Optimization", 2014, with a
stationary kernel in time in place of exponential decay: curves of decaying learning rates bend late).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from scipy.optimize import minimize
from scipy.spatial.distance import cdist

from hpo.search.curve_model.encoding import Floats

ITERATIONS = 15
"""Steps of the fit: more do not change decisions."""
EARLY = 0.1
"""Part of the epochs that is added before the logarithm: the first epochs are not far from one another."""


def in_time(parts: Floats) -> Floats:
    """Return the time of parts of all epochs, 0 to 1, on the scale of the kernel."""
    found: Floats = np.log(parts + EARLY)
    return found


@dataclass(frozen=True)
class Hyperparameters:
    """Scales of the kernel."""

    lengths: Floats
    """(d,), of each coordinate."""
    variance: float
    time_length: float
    noise: float
    """Variance of the noise."""

    @classmethod
    def of(cls, logs: Floats) -> Hyperparameters:
        variance, length, noise = np.exp(logs[-3:]).tolist()
        return cls(np.exp(logs[:-3]), variance, length, noise)


def kernel(one: tuple[Floats, Floats], other: tuple[Floats, Floats], by: Hyperparameters) -> Floats:
    """Return the covariances of two sets of points, each with its times: (n, m)."""
    distances = math.sqrt(5) * cdist(one[0] / by.lengths, other[0] / by.lengths)
    smooth = (1 + distances + distances**2 / 3) * np.exp(-distances)
    apart = math.sqrt(3) / by.time_length * np.abs(one[1][:, None] - other[1])
    found: Floats = by.variance * smooth * (0.5 + 0.5 * (1 + apart) * np.exp(-apart))
    return found


def fit(points: Floats, times: Floats, values: Floats) -> Hyperparameters:
    """Return the most probable scales of standardized values."""
    dimensions = points.shape[1]
    squares = (points[:, None] - points).transpose(2, 0, 1) ** 2
    apart = math.sqrt(3) * np.abs(times[:, None] - times)
    middle = 0.5 * math.log(max(1.0, dimensions / 6))
    prior = np.r_[np.full(dimensions, middle), 0.0, 0.0, -3.0]
    weights = np.r_[np.full(dimensions, 0.5), 0.0, 0.0, 0.5]

    def loss(logs: Floats) -> tuple[float, Floats]:
        by = Hyperparameters.of(logs)
        scaled = squares / (by.lengths**2)[:, None, None]
        distances = np.sqrt(5 * scaled.sum(0))
        decay = np.exp(-distances)
        smooth = (1 + distances + distances**2 / 3) * decay
        lag = apart / by.time_length
        fall = np.exp(-lag)
        same = 0.5 + 0.5 * (1 + lag) * fall
        signal = by.variance * smooth * same
        matrix = signal + (by.noise + 1e-6) * np.eye(len(values))
        try:
            factor = cho_factor(matrix, lower=True)
        except np.linalg.LinAlgError:
            return 1e6, np.zeros_like(logs)
        weighted = cho_solve(factor, values)
        outer = cho_solve(factor, np.eye(len(values))) - np.outer(weighted, weighted)
        by_length = by.variance * same * (5 / 3) * (1 + distances) * decay * outer
        slopes = np.r_[
            0.5 * np.einsum("kij,ij->k", scaled, by_length),
            0.5 * (signal * outer).sum(),
            0.5 * (by.variance * smooth * 0.5 * lag**2 * fall * outer).sum(),
            0.5 * by.noise * np.trace(outer),
        ]
        off = logs - prior
        total = 0.5 * values @ weighted + np.log(np.diag(factor[0])).sum() + 0.5 * weights @ off**2
        return float(total), slopes + weights * off

    bounds = [(-2.5, 3.0)] * dimensions + [(-2.0, 4.0), (-2.0, 2.0), (-6.0, 0.0)]
    start = np.r_[np.full(dimensions, middle), 0.0, 0.0, math.log(0.05)]
    found: Any = minimize(
        loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": ITERATIONS}
    )
    return Hyperparameters.of(found.x)


class Posterior:
    """What observations reveal of the function, given its scales."""

    def __init__(self, points: Floats, times: Floats, values: Floats, by: Hyperparameters) -> None:
        self._known = points, times
        self._by = by
        matrix = kernel(self._known, self._known, by)
        matrix[np.diag_indices(len(matrix))] += by.noise + 1e-6
        self._factor = cho_factor(matrix, lower=True)
        self._weights = cho_solve(self._factor, values)

    def predict(self, points: Floats, times: Floats) -> tuple[Floats, Floats]:
        """Return the mean and the standard deviation of the function, without noise, at each point."""
        between = kernel((points, times), self._known, self._by)
        explained = (between * cho_solve(self._factor, between.T).T).sum(1)
        return between @ self._weights, np.sqrt(np.maximum(1e-9, self._by.variance - explained))
