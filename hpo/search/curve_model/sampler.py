"""An Optuna sampler that proposes by a model of learning curves."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.study import Study
from optuna.trial import FrozenTrial

from objectives.base import Params

Propose = Callable[[int], Params | None]
"""Function of a seed that returns a configuration; None if the model fails."""


class CurveSampler(BaseSampler):
    """Proposes all parameters together."""

    def __init__(self, space: Mapping[str, BaseDistribution], propose: Propose, seed: int) -> None:
        self._space, self._propose, self._seed = space, propose, seed
        self._random = RandomSampler(seed=seed)

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:  # noqa: ARG002
        return dict(self._space)

    def sample_relative(
        self,
        study: Study,  # noqa: ARG002
        trial: FrozenTrial,  # noqa: ARG002
        search_space: dict[str, BaseDistribution],  # noqa: ARG002
    ) -> dict[str, Any]:
        """Return the active parameters; those that a fixed one makes active are drawn at random."""
        return self._propose(self._seed) or {}

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        return self._random.sample_independent(study, trial, param_name, param_distribution)
