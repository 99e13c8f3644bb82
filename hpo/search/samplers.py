"""From a study's spec to its sampler and pruner, so that every agent builds the same."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from functools import wraps
from importlib.util import find_spec
from typing import ParamSpec, TypeVar

from optuna import pruners, samplers
from optuna.exceptions import ExperimentalWarning

from hpo.errors import MissingDependencyError
from hpo.search.spec import StudySpec

P = ParamSpec("P")
T = TypeVar("T")

REDUCTION = 3
"""Of how many trials ASHA and Hyperband let one go on at each rung."""


def quiet(build: Callable[P, T]) -> Callable[P, T]:
    """Without Optuna's warnings that a class may change some day: its user chose it by name."""

    @wraps(build)
    def built(*args: P.args, **kwargs: P.kwargs) -> T:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            return build(*args, **kwargs)

    return built


def startup_trials(trials: int) -> int:
    """Random trials before a sampler models anything: a quarter of a small budget, at most Optuna's 10."""
    return min(10, max(4, trials // 4))


def check_sampler(name: str) -> None:
    """Raise MissingDependencyError when the sampler needs a package that is not installed."""
    if name == "gp" and find_spec("torch") is None:
        raise MissingDependencyError(
            "--sampler gp needs PyTorch: pip install 'hpo-service[gp]', or use --sampler tpe"
        )


@quiet
def build_sampler(spec: StudySpec, agent: int) -> samplers.BaseSampler:
    """The study's sampler for its agent number `agent`: equal seeds would propose equal trials.

    Raises:
        MissingDependencyError: the sampler needs a package that is not installed.
    """
    seed = (spec.seed * 10_007 + agent) % 2**32
    match spec.sampler:
        case "random":
            return samplers.RandomSampler(seed=seed)
        case "gp":
            check_sampler(spec.sampler)
            return samplers.GPSampler(seed=seed, n_startup_trials=spec.startup)
        case "cmaes":
            # It leaves choices to a random sampler, and would say so of each in every trial.
            return samplers.CmaEsSampler(
                seed=seed, n_startup_trials=spec.startup, warn_independent_sampling=False
            )
        case "qmc":
            # One scrambled sequence shared by all agents, so its seed must not differ between them.
            return samplers.QMCSampler(seed=spec.seed, scramble=True, warn_independent_sampling=False)
        case _:
            return samplers.TPESampler(seed=seed, n_startup_trials=spec.startup)


@quiet
def build_pruner(spec: StudySpec) -> pruners.BasePruner:
    """The study's pruner; steps are epochs completed, counted from 1."""
    first_look = max(1, math.ceil(spec.epochs / 3))
    match spec.pruner:
        case "none":
            return pruners.NopPruner()
        case "asha":
            return pruners.SuccessiveHalvingPruner(
                min_resource=max(1, spec.epochs // REDUCTION**2), reduction_factor=REDUCTION
            )
        case "hyperband":
            return pruners.HyperbandPruner(
                min_resource=max(1, spec.epochs // REDUCTION**2),
                max_resource=spec.epochs,
                reduction_factor=REDUCTION,
            )
        case _:
            # The first configuration is a known good one: with fewer to compare with, it alone sets the bar.
            return pruners.MedianPruner(n_startup_trials=min(5, spec.startup), n_warmup_steps=first_look)
