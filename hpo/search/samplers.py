"""Samplers that a study may choose, each built the same by every agent of the study."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from importlib.util import find_spec
from typing import ParamSpec, TypeVar

from optuna.distributions import BaseDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, GPSampler, QMCSampler, RandomSampler, TPESampler
from optuna.study import Study
from optuna.trial import FrozenTrial

from hpo.errors import MissingDependencyError
from hpo.search.cmaes_state import StoredCmaEsSampler
from hpo.search.spec import StudySpec
from objectives.spaces.space import conditions_of

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True)
class Sampler:
    """An entry of `SAMPLERS`."""

    build: Callable[[StudySpec, int], BaseSampler]
    """Function of a study's spec and a seed."""
    subsamples: bool = False
    """Whether it is as good on a part of the trials of a large study (`hpo.search.subsampled_storage`)."""
    needs: str | None = None
    """Package that it imports and that hpo-service does not require."""


SAMPLERS = {
    # Parameters that are active together are modelled together.
    "tpe": Sampler(
        lambda spec, seed: TPESampler(
            seed=seed, n_startup_trials=spec.startup, group=bool(conditions_of(spec.space))
        ),
        subsamples=True,
    ),
    "random": Sampler(lambda _, seed: RandomSampler(seed=seed)),
    # Conditional parameters are left to a random sampler by the others, with a warning in every trial.
    "gp": Sampler(
        lambda spec, seed: GPSampler(
            seed=seed,
            n_startup_trials=spec.startup,
            warn_independent_sampling=not conditions_of(spec.space),
        ),
        needs="torch",
    ),
    # It leaves choices to a random sampler, and would warn of each in every trial.
    "cmaes": Sampler(
        lambda spec, seed: StoredCmaEsSampler(
            seed=seed, n_startup_trials=spec.startup, warn_independent_sampling=False
        )
    ),
    # All agents share one scrambled sequence, so they must not differ in its seed.
    "qmc": Sampler(
        lambda spec, _: QMCSampler(seed=spec.seed, scramble=True, warn_independent_sampling=False)
    ),
}


def without_experimental_warnings(build: Callable[P, T]) -> Callable[P, T]:
    """Suppress Optuna's warnings that a class is experimental, because users choose it by name."""

    @wraps(build)
    def built(*args: P.args, **kwargs: P.kwargs) -> T:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            return build(*args, **kwargs)

    return built


def startup_trials(trials: int) -> int:
    """Return the random trials before a sampler builds a model: a quarter of a small budget, at most Optuna's 10."""
    return min(10, max(4, trials // 4))


def check_sampler(name: str) -> None:
    """Raise MissingDependencyError when the sampler needs a package that is not installed."""
    package = SAMPLERS[name].needs
    if package is not None and find_spec(package) is None:
        raise MissingDependencyError(
            f"--sampler {name} needs {package}: pip install 'hpo-service[{name}]', or use --sampler tpe"
        )


@without_experimental_warnings
def build_sampler(spec: StudySpec, agent: int) -> BaseSampler:
    """Return the study's sampler for agent number `agent`: equal seeds would propose equal trials.

    Raises:
        MissingDependencyError: the sampler needs a package that is not installed.
    """
    check_sampler(spec.sampler)
    return _telling_apart(SAMPLERS[spec.sampler].build(spec, (spec.seed * 10_007 + agent) % 2**32), spec)


def _telling_apart(sampler: BaseSampler, spec: StudySpec) -> BaseSampler:
    """Let a sampler model the study's own distributions, where 1 is not True, instead of those that Optuna reads."""
    infer = sampler.infer_relative_search_space

    def own(study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return {
            name: found if (known := spec.space.get(name)) != found or known is None else known
            for name, found in infer(study, trial).items()
        }

    sampler.infer_relative_search_space = own  # type: ignore[method-assign]
    return sampler
