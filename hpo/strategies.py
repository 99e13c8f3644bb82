"""From a study's spec to its sampler and pruner, so that every agent builds the same."""

from __future__ import annotations

import math
from importlib.util import find_spec

from optuna import pruners, samplers

from hpo.errors import MissingDependencyError
from hpo.spec import StudySpec

REDUCTION = 3
"""Of how many trials ASHA and Hyperband let one go on at each rung."""


def startup_trials(trials: int) -> int:
    """Random trials before a sampler models anything: a quarter of a small budget, at most Optuna's 10."""
    return min(10, max(4, trials // 4))


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
            if find_spec("torch") is None:
                raise MissingDependencyError(
                    "--sampler gp needs PyTorch: pip install 'hpo-service[gp]', or use --sampler tpe"
                )
            return samplers.GPSampler(seed=seed, n_startup_trials=spec.startup)
        case "cmaes":
            return samplers.CmaEsSampler(seed=seed, n_startup_trials=spec.startup)
        case "qmc":
            # One scrambled sequence shared by all agents, so its seed must not differ between them.
            return samplers.QMCSampler(seed=spec.seed, scramble=True)
        case _:
            return samplers.TPESampler(seed=seed, n_startup_trials=spec.startup)


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
            return pruners.MedianPruner(n_startup_trials=max(2, spec.startup // 2), n_warmup_steps=first_look)
