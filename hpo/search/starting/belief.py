"""A sampler that believes in the configurations that a study starts from.

They are known to be good, so their neighbourhood is worth more of the first trials than the rest of the space: half of
the trials that a sampler would draw at random, before it has enough of them for a model, are drawn around these
configurations. One whose own trial is worse than half of all that have ended is no longer believed, and the belief
ends with these trials, so one that misleads costs less than they do. That is how
PriorBand begins (Mallik et al., "PriorBand: Practical Hyperparameter Optimization in the Age of Deep Learning", 2023);
its falling shares of later trials lost to this in `bench/search`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import NormalDist
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.samplers import BaseSampler
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState

from hpo.search.space import from_unit, place_of, to_unit
from hpo.search.views.subsampled_storage import Rank, rank
from objectives.base import Params
from objectives.spaces.choices import same_params

SHARE = 0.5
"""Part of the first trials that are drawn around a configuration; the others are drawn at random."""
SPREAD = 0.25
"""Standard deviation of a number around its believed value, of the range in which the parameter is searched."""
KEPT = 0.7
"""Probability that a choice is the believed one."""


class BelievingSampler(BaseSampler):
    """Draws the first trials around given configurations, and leaves the others to another sampler."""

    def __init__(
        self,
        sampler: BaseSampler,
        *,
        space: Mapping[str, BaseDistribution],
        believed: Sequence[Params],
        trials: int,
        seed: int,
    ) -> None:
        """Draw trials whose number is below `trials`; `believed` may hold parts of configurations."""
        self._sampler = sampler
        self._space, self._believed, self._trials = space, believed, trials
        self._rng = np.random.default_rng(seed)
        self._drawn: Params | None = None

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        self._drawn = None
        believed = self._still_believed(study) if trial.number < self._trials else []
        if believed and self._rng.random() < SHARE:
            center = believed[int(self._rng.integers(len(believed)))]
            self._drawn = {name: _around(center, name, dist, self._rng) for name, dist in self._space.items()}
            # Values of parameters that turn out to be inactive are never asked for.
            return dict(self._space)
        return self._sampler.infer_relative_search_space(study, trial)

    def _still_believed(self, study: Study) -> Sequence[Params]:
        """Return the configurations whose own trials, if they have ended, are not worse than half of all."""
        signs = [-1.0 if one == StudyDirection.MAXIMIZE else 1.0 for one in study.directions]
        ended = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))
        ranks = [[rank(trial, sign, objective) for objective, sign in enumerate(signs)] for trial in ended]
        worse = [
            trial.params
            for trial, own in zip(ended, ranks, strict=True)
            if sum(_dominates(other, own) for other in ranks) >= (len(ended) + 1) // 2
        ]
        return [params for params in self._believed if not any(self._has(other, params) for other in worse)]

    def _has(self, params: Params, part: Params) -> bool:
        shared = {name: params[name] for name in part if name in params}
        return same_params(shared, part, self._space)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        if self._drawn is not None:
            return self._drawn
        return self._sampler.sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        return self._sampler.sample_independent(study, trial, param_name, param_distribution)

    def after_trial(
        self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None
    ) -> None:
        self._sampler.after_trial(study, trial, state, values)


def _dominates(one: Sequence[Rank], other: Sequence[Rank]) -> bool:
    """Whether a trial is better in one objective, and at least as good in all."""
    return one != other and all(own <= rank for own, rank in zip(one, other, strict=True))


def _around(center: Params, name: str, distribution: BaseDistribution, rng: np.random.Generator) -> Any:
    """Return a value near that of a configuration, or any value if it has none."""
    if isinstance(distribution, CategoricalDistribution):
        places = list(range(len(distribution.choices)))
        if name in center:
            believed = place_of(center[name], distribution)
            if len(places) == 1 or rng.random() < KEPT:
                return distribution.choices[believed]
            places.remove(believed)
        return distribution.choices[places[int(rng.integers(len(places)))]]
    if name not in center:
        return from_unit(rng.random(), distribution)
    near = NormalDist(to_unit(center[name], distribution), SPREAD)
    low, high = near.cdf(0.0), near.cdf(1.0)
    return from_unit(near.inv_cdf(low + (high - low) * rng.random()), distribution)
