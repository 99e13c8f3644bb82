"""A sampler without a state of its own: the same trial of the same study gets the same proposal from every agent.

The samplers of Optuna draw from one stream of random numbers per process, so that what they propose depends on all
that the process has drawn before. Here each trial has a stream of its own, and so has each parameter that is drawn
alone: a trial whose agent died half-way through its parameters gets the same rest.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, QMCSampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState


class RepeatableSampler(BaseSampler):
    """Builds a sampler for each trial, from the study's seed and the trial's number."""

    def __init__(
        self, build: Callable[[int], BaseSampler], seed: int, space: Mapping[str, BaseDistribution]
    ) -> None:
        """`build` returns a sampler for a seed; `space` holds the study's own distributions."""
        self._build = build
        self._seed = seed
        self._space = space
        self._joint = build(0)
        """Sampler of the trial whose parameters are being drawn together."""

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Return the parameters that are drawn together.

        Their distributions are the study's own, where 1 is not True, instead of those that Optuna reads.
        """
        self._joint = self._built(trial)
        return {
            name: found if (known := self._space.get(name)) != found or known is None else known
            for name, found in self._joint.infer_relative_search_space(study, trial).items()
        }

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return self._joint.sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        sampler = self._built(trial, param_name)
        return sampler.sample_independent(study, trial, param_name, param_distribution)

    def after_trial(
        self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None
    ) -> None:
        self._joint.after_trial(study, trial, state, values)

    def _built(self, trial: FrozenTrial, parameter: str = "") -> BaseSampler:
        stream = np.random.SeedSequence([self._seed, trial.number, zlib.crc32(parameter.encode())])
        return self._build(int(stream.generate_state(1)[0]))


class NumberedQMCSampler(QMCSampler):
    """Gives each trial the point of its number in one sequence over the whole space, from the first trial on.

    Optuna's counts the points that were drawn, so that a proposal which is made again gets another one.
    """

    def __init__(self, space: Mapping[str, BaseDistribution], seed: int, independent: BaseSampler) -> None:
        """Draw the parameters of an open space, whose `space` is empty, as Optuna does."""
        super().__init__(
            seed=seed, scramble=True, warn_independent_sampling=False, independent_sampler=independent
        )
        self._known = {name: dist for name, dist in space.items() if not dist.single()}
        self._number = 0

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return dict(self._known) or super().infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        self._number = trial.number
        return super().sample_relative(study, trial, search_space)

    def _find_sample_id(self, study: Study, search_space: dict[str, BaseDistribution]) -> int:  # noqa: ARG002
        return self._number
