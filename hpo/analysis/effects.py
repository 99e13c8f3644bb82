"""What each hyperparameter did, in words, and only where the trials show it.

The rule. A sampler tries what looked good, so parameters are entangled: a dropout may look good only because it
was tried together with a good learning rate. So every parameter is judged in one additive model of all of them
(a curve of second degree for a number, on its own scale; a level for each choice), fitted to the ranks of the
values, so that a trial that went wrong counts no more than any other. Whether a parameter belongs in the model
is tested by permuting the residuals of the model without it (Freedman and Lane, 1983), and the p-values of all
parameters are corrected for their number (Holm, 1979). Size and interval of an effect come from the
same model on the values themselves, over bootstrap samples of the trials. With fewer than `MIN_TRIALS` trials, or fewer
than `TRIALS_PER_COEFFICIENT` for each coefficient, nothing is said. Interactions are not modelled, but for one that is
known beforehand (`NESTED`): an effect is one on average over the others.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, CategoricalDistribution

from hpo import formatting
from hpo.analysis.common_epoch import Comparison
from hpo.analysis.statistics import CONFIDENCE, holm
from hpo.search.space_scaling import from_unit, to_unit

Floats = NDArray[np.float64]

MIN_TRIALS = 20
"""Below which nothing is said of any parameter."""
TRIALS_PER_COEFFICIENT = 2.5
NESTED = {"learning_rate": "optimizer"}
"""Numbers that mean something else with each choice of another parameter: Adam's learning rates are not SGD's, so one
curve for both would show neither."""
PERMUTATIONS = 1999
MOST_CELLS = 4_000_000
"""Trials times permutations; of a study with thousands of trials fewer orders are tried, for the sake of memory."""
BOOTSTRAPS = 1000
TOP_TRIALS = 5
"""Trials that PED-ANOVA needs above its quantile, as its own documentation recommends."""


@dataclass(frozen=True)
class Effect:
    """One parameter."""

    parameter: str
    finding: str
    """What is known of it, as a sentence."""
    p_value: float | None = None
    """Corrected for the number of parameters; None where too few trials were compared."""
    worst: str | None = None
    """Value that did worst, as the model has it, within the middle 80 % of those tried."""
    best: str | None = None
    cost: float | None = None
    """Of the worst against the best value, in the metric's units, positive."""
    interval95: tuple[float, float] | None = None
    """Of the cost."""
    stands_out: bool = False
    """Whether the trials show that it had an effect."""

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-ready dict."""
        values = asdict(self)
        return {"parameter": values.pop("parameter"), "words": values.pop("finding"), **values}


@dataclass(frozen=True)
class Column:
    """One parameter in the model, or one of a parameter that is judged for each choice of another."""

    name: str
    distribution: BaseDistribution
    values: Sequence[Any]
    """Of the trials that it is judged by."""
    rows: NDArray[np.bool_]
    """Which of all trials compared these are."""

    @property
    def choices(self) -> list[Any]:
        """Values that were tried, in the order of the space."""
        assert isinstance(self.distribution, CategoricalDistribution)
        return [choice for choice in self.distribution.choices if choice in self.values]

    @property
    def is_choice(self) -> bool:
        return isinstance(self.distribution, CategoricalDistribution)

    def features(self, values: Sequence[Any]) -> Floats:
        """(n, k): for a number its place in 0..1 on its own scale and the square; else a level each."""
        if self.is_choice:
            return np.array([[float(value == choice) for choice in self.choices[1:]] for value in values])
        place = np.array([to_unit(value, self.distribution) for value in values])
        distinct = len({repr(value) for value in self.values})
        return np.column_stack([place, place**2] if distinct > 2 else [place])

    def block(self) -> Floats:
        """(trials, k): its part of the model, zero in the rows of trials that it says nothing of.

        k is 0 where those that it is judged by are too few to draw a curve through.

        About its mean, so that what it is nested in is judged at the values tried with each choice, not at their end.
        """
        if not self.is_judged:
            return np.zeros((len(self.rows), 0))
        found = np.zeros((len(self.rows), self.coefficients))
        features = self.features(self.values)
        found[self.rows] = features - features.mean(axis=0)
        return found

    @property
    def coefficients(self) -> int:
        return int(self.features(self.values[:1]).shape[1])

    @property
    def is_judged(self) -> bool:
        """Whether there are trials enough for its own coefficients."""
        return len(self.values) >= TRIALS_PER_COEFFICIENT * (1 + self.coefficients)

    def tried(self) -> list[Any]:
        """Values at which the effect is looked at: every choice, or a number's middle 80 %, in 21 steps."""
        if self.is_choice:
            return self.choices
        ordered = sorted(self.values, key=lambda value: to_unit(value, self.distribution))
        inner = ordered[len(ordered) // 10 : len(ordered) - len(ordered) // 10]
        low, high = (to_unit(value, self.distribution) for value in (inner[0], inner[-1]))
        return [from_unit(place, self.distribution) for place in np.linspace(low, high, 21)]


def columns_of(comparison: Comparison) -> list[Column]:
    """The parameters that varied; one of `NESTED` once for each choice of the other, where that varied, too."""
    found = []
    everywhere = np.ones(len(comparison.trials), dtype=np.bool_)
    for name in comparison.varied:
        values = [one.trial.params[name] for one in comparison.trials]
        whole = Column(name, comparison.space[name], values, everywhere)
        other = NESTED.get(name)
        if other not in comparison.varied or whole.is_choice or other is None:
            found.append(whole)
            continue
        held = [one.trial.params[other] for one in comparison.trials]
        for choice in dict.fromkeys(sorted(held, key=str)):
            rows = np.array([value == choice for value in held])
            members = [value for value, member in zip(values, rows, strict=True) if member]
            found.append(Column(f"{name} with {choice}", comparison.space[name], members, rows))
    return found


def find_effects(comparison: Comparison, seed_noise: float | None = None) -> list[Effect]:
    """What can be said of each parameter that varied.

    `seed_noise` is the standard deviation of the metric over seeds of one configuration, where it is known.
    """
    columns = columns_of(comparison)
    needed = trials_needed(comparison)
    n = len(comparison.trials)
    if n < needed:
        words = f"too few trials to tell ({n} compared, {needed} are needed)"
        return [Effect(column.name, words) for column in columns]
    values = np.array([one.value for one in comparison.trials], dtype=np.float64)
    if np.ptp(values) == 0:
        return [Effect(column.name, "every trial had the same value") for column in columns]
    rng = np.random.default_rng(0)
    blocks = [column.block() for column in columns]
    judged = [index for index, column in enumerate(columns) if column.is_judged]
    corrected = holm([_p_value(blocks, index, _ranks(values), rng) for index in judged])
    p_values = dict(zip(judged, corrected, strict=True))
    oriented = _without_extremes(values if comparison.maximize else -values)
    samples = [rng.integers(0, n, n) for _ in range(BOOTSTRAPS)]
    return [
        _effect(
            column,
            blocks,
            index,
            oriented,
            samples,
            p_values[index],
            comparison.metric,
            seed_noise,
            comparison.varied,
        )
        if index in p_values
        else Effect(column.name, f"too few trials to tell ({len(column.values)})")
        for index, column in enumerate(columns)
    ]


def trials_needed(comparison: Comparison) -> int:
    """Trials without which nothing is said of this study's parameters."""
    # Of a parameter that all trials judge every coefficient counts, however few they are so far.
    counted = [
        column.coefficients
        for column in columns_of(comparison)
        if column.is_judged or len(column.values) == len(comparison.trials)
    ]
    coefficients = 1 + sum(counted)
    return max(MIN_TRIALS, math.ceil(TRIALS_PER_COEFFICIENT * coefficients))


def importances(comparison: Comparison) -> dict[str, float] | None:
    """PED-ANOVA's importance of each parameter, the largest first; None with too few trials.

    It asks which parameters the best trials (a tenth, and at least five) agree in
    (Watanabe et al., 2023); it says nothing of the size of an effect.
    """
    n = len(comparison.trials)
    varied = comparison.varied
    if n < MIN_TRIALS or not varied:
        return None
    import optuna
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        study = optuna.create_study(direction="maximize" if comparison.maximize else "minimize")
        study.add_trials(
            optuna.trial.create_trial(
                params={name: one.trial.params[name] for name in comparison.space},
                distributions=dict(comparison.space),
                value=one.value,
            )
            for one in comparison.trials
        )
        evaluator = PedAnovaImportanceEvaluator(target_quantile=max(0.1, TOP_TRIALS / n))
        found = get_param_importances(study, evaluator=evaluator, params=varied)
    finally:
        optuna.logging.set_verbosity(verbosity)
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def amount(value: float, metric: str) -> str:
    """A difference of a metric: a share in points of a hundred, anything else in its own units."""
    return f"{100 * value:.1f} points" if is_share(metric) else formatting.metric(value)


def is_share(metric: str) -> bool:
    """Whether a metric is a share, whose hundredths are called points."""
    return "accuracy" in metric


def _effect(
    column: Column,
    blocks: Sequence[Floats],
    index: int,
    values: Floats,
    samples: Sequence[NDArray[np.int64]],
    p_value: float,
    metric: str,
    seed_noise: float | None,
    varied: Sequence[str],
) -> Effect:
    """`values` are oriented so that larger is better."""
    tried = column.tried()
    features = column.features(tried)
    first = 1 + sum(block.shape[1] for block in blocks[:index])
    part = slice(first, first + blocks[index].shape[1])
    model = _design(len(values), blocks)

    def levels(rows: NDArray[np.int64] | slice) -> Floats:
        coefficients = np.linalg.lstsq(model[rows], values[rows], rcond=None)[0]
        return np.asarray(features @ coefficients[part], dtype=np.float64)

    fitted = levels(slice(None))
    best, worst = int(np.argmax(fitted)), int(np.argmin(fitted))
    resampled = np.array([levels(sample) for sample in samples])
    tail = 100 * (1 - CONFIDENCE) / 2
    costs = resampled[:, best] - resampled[:, worst]
    low, high = (float(edge) for edge in np.percentile(costs, [tail, 100 - tail]))
    # Between any two of the values: what may still hide behind "no effect".
    most = float(np.percentile(np.ptp(resampled, axis=1), 100 * CONFIDENCE))
    cost = float(fitted[best] - fitted[worst])
    shown = [formatting.parameter(_plain(tried[place])) for place in (worst, best)]
    if p_value < 1 - CONFIDENCE and low > 0:
        interval = f"95 % interval {amount(low, metric).removesuffix(' points')} to {amount(high, metric)}"
        nested = [name for name, other in NESTED.items() if other == column.name and name in varied]
        on_terms = f", each with the {' and '.join(nested)} tried with it" if nested else ""
        words = f"{shown[0]} cost {amount(cost, metric)} against {shown[1]}{on_terms} ({interval})"
        return Effect(column.name, words, p_value, shown[0], shown[1], cost, (low, high), True)
    if seed_noise is not None and most < seed_noise:
        words = (
            f"did not matter: its values differ by less than {amount(seed_noise, metric)}, as seeds alone do"
        )
    else:
        words = (
            f"no effect that stands out from chance (p = {p_value:.2f}); one of up to {amount(most, metric)} "
            "cannot be excluded"
        )
    return Effect(column.name, words, p_value, shown[0], shown[1], cost, (low, high))


def _p_value(blocks: Sequence[Floats], index: int, values: Floats, rng: np.random.Generator) -> float:
    """Freedman and Lane's test of one block of columns, all others being in the model."""
    without = _projector(
        _design(len(values), [block for place, block in enumerate(blocks) if place != index])
    )
    whole = _projector(_design(len(values), blocks))
    fitted = without(values[:, None])
    residuals = values[:, None] - fitted
    count = max(199, min(PERMUTATIONS, MOST_CELLS // len(values)))
    orders = np.argsort(rng.random((len(values), count)), axis=0)
    permuted = fitted + residuals[:, 0][orders]

    def gain(columns: Floats) -> Floats:
        """What the block explains, as a share of what the whole model leaves: the F statistic, but for a factor."""
        left = ((columns - whole(columns)) ** 2).sum(axis=0)
        before = ((columns - without(columns)) ** 2).sum(axis=0)
        ratio: Floats = (before - left) / np.maximum(left, 1e-12)
        return ratio

    observed = gain(values[:, None])[0]
    return float((1 + (gain(permuted) >= observed - 1e-12).sum()) / (1 + count))


def _design(rows: int, blocks: Sequence[Floats]) -> Floats:
    """Columns of the model: the constant, and those of each block."""
    return np.column_stack([np.ones(rows), *blocks])


def _projector(design: Floats) -> Callable[[Floats], Floats]:
    """The function that projects columns onto the space that a model spans."""
    left, sizes, _ = np.linalg.svd(design, full_matrices=False)
    basis = left[:, sizes > 1e-10 * sizes.max()]

    def project(columns: Floats) -> Floats:
        projected: Floats = basis @ (basis.T @ columns)
        return projected

    return project


def _ranks(values: Floats) -> Floats:
    from scipy.stats import rankdata

    return np.asarray(rankdata(values), dtype=np.float64)


def _without_extremes(values: Floats) -> Floats:
    """Values far below the rest, of trials that went wrong, brought nearer: a mean must not hang on them."""
    quarter, half = np.percentile(values, [25, 50])
    floor = quarter - 3 * max(half - quarter, 1e-12)
    return np.asarray(np.maximum(values, floor), dtype=np.float64)


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value
