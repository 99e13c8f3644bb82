"""A model of learning curves: predicts each configuration's score after any epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hpo.search.curve_model.curves import Curve
from hpo.search.curve_model.encoding import Encoding, Floats
from hpo.search.curve_model.gaussian_process import Hyperparameters, Posterior, fit, in_time
from hpo.search.curve_model.scaling import scaled

FITTED = 100
"""Observations by which the kernel's scales are fitted, of more."""


class CurveModel:
    """Predicts scaled scores, of which larger ones are better."""

    def __init__(
        self, encoding: Encoding, epochs: int, curves: Sequence[Curve], by: Hyperparameters | None = None
    ) -> None:
        """`by`: scales of the kernel; they are fitted if none are given."""
        self._encoding, self._epochs = encoding, epochs
        points = encoding.points([curve.params for curve in curves])
        seen = [
            (row, epoch, curve.scores[epoch]) for row, curve in enumerate(curves) for epoch in curve.learned
        ]
        rows = np.array([row for row, _, _ in seen])
        times = in_time(np.array([epoch for _, epoch, _ in seen]) / epochs)
        values = scaled(np.array([score for _, _, score in seen]))
        design = np.c_[np.ones(len(times)), times]
        self._trend = (
            np.linalg.lstsq(design, values, rcond=None)[0]
            if len(seen) > 3
            else np.array([values.mean(), 0.0])
        )
        rest = values - design @ self._trend
        self.spread = float(rest.std()) or 1.0
        """Standard deviation of the scaled scores around their trend over the epochs."""
        rest /= self.spread
        part = np.random.default_rng(0).permutation(len(seen))[:FITTED]
        self.by = by or fit(points[rows[part]], times[part], rest[part])
        self._posterior = Posterior(points[rows], times, rest, self.by)
        self.best = float(values.max())
        self.last = np.array([values[rows == row][-1] for row in range(len(curves))])
        """(curves,), last scaled score of each."""

    def predict(self, configurations: Sequence[Mapping[str, Any]], epochs: Floats) -> tuple[Floats, Floats]:
        """Return the mean and the standard deviation of each configuration's scaled score after an epoch."""
        times = in_time(np.asarray(epochs) / self._epochs)
        mean, deviation = self._posterior.predict(self._encoding.points(configurations), times)
        return self._trend[0] + self._trend[1] * times + mean * self.spread, deviation * self.spread
