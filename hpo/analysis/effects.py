"""Effects of hyperparameters, each with a test, a size and an interval.

A sampler tries good values of several parameters together, so parameters are correlated: a dropout may look good only
because it was tried together with a good learning rate. One additive model therefore contains all parameters
(a quadratic curve for a number, on its search scale; a level for each choice). It is fitted to the ranks of the values,
so that an outlier counts no more than any other trial. A permutation test of the residuals of the model without
a parameter gives its p-value (Freedman and Lane, 1983), corrected for the number of parameters (Holm, 1979). Size and
interval come from the same model on the values themselves, over bootstrap samples of the trials. No effect is reported
with fewer than `MIN_TRIALS` trials or `TRIALS_PER_COEFFICIENT` trials per coefficient. Apart from the known interaction
in `NESTED`, effects are averages over the other parameters.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from hpo.analysis.columns import NESTED, TRIALS_PER_COEFFICIENT, Column, Floats, columns_of
from hpo.analysis.common_epoch import Comparison
from hpo.analysis.figures import amount, is_share
from hpo.analysis.statistics import CONFIDENCE, holm

MIN_TRIALS = 20
"""Fewest trials for which effects are reported."""
PERMUTATIONS = 1999
MOST_CELLS = 4_000_000
"""Limit of trials times permutations, which bounds memory: studies with thousands of trials use fewer permutations.
Bootstrap samples are fitted in batches of so many cells."""
BOOTSTRAPS = 1000
KEPT, DROPPED = 1e-9, 1e-14
"""Eigenvalues of a sample's moments, relative to the largest, above which a direction of the model is estimated, and
below which the sample does not determine it. Between them, rounding errors of the moments would decide."""


@dataclass(frozen=True, kw_only=True)
class Effect:
    """Effect of one parameter."""

    parameter: str
    finding: str
    """Sentence that states the effect or its absence."""
    p_value: float | None = None
    """P-value corrected for the number of parameters; None with too few trials."""
    worst: str | None = None
    """Worst value according to the model, within the middle 80 % of the tried values."""
    best: str | None = None
    cost: float | None = None
    """Cost of the worst against the best value, positive, in the metric's units."""
    interval95: tuple[float, float] | None = None
    """Bootstrap interval of the cost."""
    stands_out: bool = False
    """Whether the effect is significant."""

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-ready dict."""
        values = asdict(self)
        return {"parameter": values.pop("parameter"), "words": values.pop("finding"), **values}


def find_effects(comparison: Comparison, seed_noise: float | None = None) -> list[Effect]:
    """Return the effect of each varied parameter.

    `seed_noise` is the standard deviation of the metric over seeds of one configuration, if known.
    """
    columns = columns_of(comparison)
    needed = trials_needed(comparison)
    n = len(comparison.trials)
    if n < needed:
        finding = f"too few trials ({n} compared, {needed} needed)"
        return [Effect(parameter=column.name, finding=finding) for column in columns]
    values = np.array([one.value for one in comparison.trials], dtype=np.float64)
    if np.ptp(values) == 0:
        return [Effect(parameter=column.name, finding="all trials have the same value") for column in columns]
    rng = np.random.default_rng(0)
    blocks = [column.block() for column in columns]
    judged = [index for index, column in enumerate(columns) if column.is_judged]
    oriented = _without_extremes(values if comparison.maximize else -values)
    # Threads take four times the processor time for matrices this small where other work runs.
    with threadpool_limits(limits=1, user_api="blas"):
        design = _design(n, blocks)
        whole, ranks = _basis(design), _ranks(values)
        corrected = holm([_p_value(_basis(_design(n, blocks, index)), whole, ranks, rng) for index in judged])
        fits = _fits(design, oriented, rng)
    p_values = dict(zip(judged, corrected, strict=True))
    edges = np.cumsum([1, *(block.shape[1] for block in blocks)])
    return [
        _effect(
            column,
            fits[:, edges[index] : edges[index + 1]],
            p_values[index],
            comparison.metric if is_share(comparison.metric, values) else "",
            seed_noise,
            comparison.varied,
        )
        if index in p_values
        else Effect(parameter=column.name, finding=f"too few trials ({len(column.values)})")
        for index, column in enumerate(columns)
    ]


def parameter_of(effect: Effect) -> str:
    """Return the parameter of an effect, which may be that of one choice of another parameter."""
    return next((name for name in NESTED if effect.parameter.startswith(f"{name} with ")), effect.parameter)


def trials_needed(comparison: Comparison) -> int:
    """Return the number of trials needed to report effects of this study's parameters."""
    # A parameter of all trials counts even while there are too few trials for its coefficients.
    counted = [
        column.coefficients
        for column in columns_of(comparison)
        if column.is_judged or len(column.values) == len(comparison.trials)
    ]
    coefficients = 1 + sum(counted)
    return max(MIN_TRIALS, math.ceil(TRIALS_PER_COEFFICIENT * coefficients))


def _effect(
    column: Column,
    fits: Floats,
    p_value: float,
    metric: str,
    seed_noise: float | None,
    varied: Sequence[str],
) -> Effect:
    """Estimate one effect from the rows of `_fits`, of which the columns are its coefficients."""
    tried = column.tried()
    levels = np.asarray(fits @ column.features(tried).T, dtype=np.float64)
    fitted, resampled = levels[0], levels[1:]
    best, worst = int(np.argmax(fitted)), int(np.argmin(fitted))
    tail = 100 * (1 - CONFIDENCE) / 2
    costs = resampled[:, best] - resampled[:, worst]
    low, high = (float(edge) for edge in np.percentile(costs, [tail, 100 - tail]))
    # Largest difference between any two of the values that the data do not exclude.
    most = float(np.percentile(np.ptp(resampled, axis=1), 100 * CONFIDENCE))
    cost = float(fitted[best] - fitted[worst])
    shown = [column.text(_plain(tried[place])) for place in (worst, best)]
    significant = p_value < 1 - CONFIDENCE and low > 0
    if significant:
        interval = f"95 % interval {amount(low, metric).removesuffix(' points')} to {amount(high, metric)}"
        nested = [name for name, other in NESTED.items() if other == column.name and name in varied]
        averaged = f", each with the {' and '.join(nested)} tried with it" if nested else ""
        finding = f"{shown[0]} is {amount(cost, metric)} worse than {shown[1]}{averaged} ({interval})"
    else:
        finding = _describe_absence(p_value, most, seed_noise, metric)
    return Effect(
        parameter=column.name,
        finding=finding,
        p_value=p_value,
        worst=shown[0],
        best=shown[1],
        cost=cost,
        interval95=(low, high),
        stands_out=significant,
    )


def _fits(model: Floats, values: Floats, rng: np.random.Generator) -> Floats:
    """Return (1 + BOOTSTRAPS, k): the model's coefficients for all trials, then for each bootstrap sample of them.

    `values` are oriented so that larger is better.
    """
    n, k = model.shape
    batch = max(1, MOST_CELLS // max(n, k * k))
    found = [_fit(model, values)[None]]
    for start in range(0, BOOTSTRAPS, batch):
        samples = [rng.integers(0, n, n) for _ in range(start, min(start + batch, BOOTSTRAPS))]
        counts = np.array([np.bincount(sample, minlength=n) for sample in samples], dtype=np.float64)
        found.append(_weighted_fits(model, values, counts))
    return np.concatenate(found)


def _weighted_fits(model: Floats, values: Floats, counts: Floats) -> Floats:
    """Return (b, k): the coefficients of least squares and least size for `counts` (b, n) of each trial.

    All of them at once, from the moments of each sample: a thousand separate fits took most of a report's time.
    """
    moments = np.stack([counts @ (column[:, None] * model) for column in model.T], axis=1)
    sizes, axes = np.linalg.eigh(moments)
    relative = sizes / sizes[:, -1:]
    inverse = np.zeros_like(sizes)
    np.divide(1.0, sizes, out=inverse, where=relative > KEPT)
    turned = counts @ (model * values[:, None])
    turned = inverse * (axes.transpose(0, 2, 1) @ turned[..., None])[..., 0]
    found = np.asarray((axes @ turned[..., None])[..., 0], dtype=np.float64)
    for place in np.flatnonzero(((relative > DROPPED) & (relative <= KEPT)).any(axis=1)):
        rows = np.repeat(np.arange(len(values)), counts[place].astype(int))
        found[place] = _fit(model[rows], values[rows])
    return found


def _fit(model: Floats, values: Floats) -> Floats:
    return np.asarray(np.linalg.lstsq(model, values, rcond=None)[0], dtype=np.float64)


def _describe_absence(p_value: float, most: float, seed_noise: float | None, metric: str) -> str:
    if seed_noise is not None and most < seed_noise:
        return f"negligible: its values differ by less than seed noise ({amount(seed_noise, metric)})"
    return f"no significant effect (p = {p_value:.2f}); an effect of up to {amount(most, metric)} cannot be excluded"


def _p_value(without: Floats, whole: Floats, values: Floats, rng: np.random.Generator) -> float:
    """Return the p-value of Freedman and Lane's test of one block of columns.

    `without` and `whole` are the bases of the models without it and with all blocks.
    """
    # Both models contain the fitted values, so residuals alone give the same sums of squares.
    residuals = values - without @ (without.T @ values)
    count = max(199, min(PERMUTATIONS, MOST_CELLS // len(values)))
    orders = np.argsort(rng.random((len(values), count)), axis=0)

    def gain(columns: Floats) -> Floats:
        """Return the F statistic of the block up to a constant factor."""
        total = (columns**2).sum(axis=0)
        before, left = (total - ((basis.T @ columns) ** 2).sum(axis=0) for basis in (without, whole))
        ratio: Floats = (before - left) / np.maximum(left, 1e-12)
        return ratio

    observed = gain(residuals[:, None])[0]
    return float((1 + (gain(residuals[orders]) >= observed - 1e-12).sum()) / (1 + count))


def _design(rows: int, blocks: Sequence[Floats], without: int | None = None) -> Floats:
    """Return the columns of the model: the constant and those of each block, except that of index `without`."""
    return np.column_stack(
        [np.ones(rows), *(block for index, block in enumerate(blocks) if index != without)]
    )


def _basis(design: Floats) -> Floats:
    """Return (n, k): orthonormal columns that span a model."""
    left, sizes, _ = np.linalg.svd(design, full_matrices=False)
    return np.asarray(left[:, sizes > 1e-10 * sizes.max()], dtype=np.float64)


def _ranks(values: Floats) -> Floats:
    """Return the ranks from 1 on; equal values have the mean of theirs.

    As `rankdata` of scipy.stats, whose import takes a fifth of the processor time of a report of 1,000 trials.
    """
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    return np.asarray((np.cumsum(counts) - (counts - 1) / 2)[places], dtype=np.float64)


def _without_extremes(values: Floats) -> Floats:
    """Clip values far below the rest, so that outliers do not dominate means."""
    quarter, half = np.percentile(values, [25, 50])
    floor = quarter - 3 * max(half - quarter, 1e-12)
    return np.asarray(np.maximum(values, floor), dtype=np.float64)


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value
