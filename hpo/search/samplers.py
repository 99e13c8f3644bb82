"""Samplers that a study may choose, which propose the same for a trial whichever agent asks them."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial, wraps
from importlib.util import find_spec
from typing import ParamSpec, TypeVar

from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, GPSampler, RandomSampler

from hpo.errors import MissingDependencyError
from hpo.options.defaults import CURVES
from hpo.search.cmaes_state import StoredCmaEsSampler
from hpo.search.curve_model.sampler import CurveSampler, Propose
from hpo.search.remembering_tpe import Memory, RememberingTPESampler
from hpo.search.repeatable import NumberedQMCSampler, RepeatableSampler
from hpo.search.spec import StudySpec
from hpo.search.starting.belief import BelievingSampler
from hpo.search.starting.starting_points import starting_points
from objectives.spaces.space import conditions_of

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True)
class Sampler:
    """An entry of `SAMPLERS`."""

    build: Callable[[StudySpec], Callable[..., BaseSampler]]
    """Function of a study's spec that returns one of a `seed`."""
    learns: bool = True
    """Whether what it proposes depends on the trials that have ended."""
    believes: bool = False
    """Whether its first trials are drawn around the configurations that the study starts from, not at random."""
    subsamples: bool = False
    """Whether it is as good on a part of the trials of a large study (`hpo.search.views.subsampled_storage`)."""
    needs: str | None = None
    """Package that it imports and that hpo-service does not require."""


SAMPLERS = {
    # Parameters that are active together are modelled together.
    "tpe": Sampler(
        lambda spec: partial(
            RememberingTPESampler,
            Memory(),
            n_startup_trials=spec.startup,
            group=bool(conditions_of(spec.space)),
            # Groups need it; by default one objective has it, and two have not.
            multivariate=True if conditions_of(spec.space) else None,
        ),
        believes=True,
        subsamples=True,
    ),
    # The model belongs to an agent (`hpo.agent.store.advisor`), which reads the curves.
    CURVES: Sampler(lambda _: RandomSampler),
    "random": Sampler(lambda _: RandomSampler, learns=False),
    # Conditional parameters are left to a random sampler by the others, with a warning in every trial.
    "gp": Sampler(
        lambda spec: partial(
            GPSampler,
            n_startup_trials=spec.startup,
            warn_independent_sampling=not conditions_of(spec.space),
        ),
        needs="torch",
    ),
    # It leaves choices to a random sampler, and would warn of each in every trial.
    "cmaes": Sampler(
        lambda spec: partial(
            StoredCmaEsSampler, n_startup_trials=spec.startup, warn_independent_sampling=False
        )
    ),
    # All trials share one scrambled sequence, so they must not differ in its seed.
    "qmc": Sampler(
        lambda spec: lambda seed: NumberedQMCSampler(spec.space, spec.seed, RandomSampler(seed=seed)),
        learns=False,
    ),
    # Each trial is given its configuration under the study's lock (`storage.configurations`), so nothing is left to it.
    "grid": Sampler(lambda _: RandomSampler, learns=False),
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
    """Return the number of trials before a sampler builds a model: a quarter of a small budget, at most Optuna's 10."""
    return min(10, max(4, trials // 4))


def check_sampler(name: str) -> None:
    """Raise MissingDependencyError when the sampler needs a package that is not installed."""
    package = SAMPLERS[name].needs
    if package is not None and find_spec(package) is None:
        raise MissingDependencyError(
            f"--sampler {name} needs {package}: pip install 'hpo-service[{name}]', or use --sampler tpe"
        )


def build_sampler(spec: StudySpec, propose: Propose | None = None) -> BaseSampler:
    """Return the study's sampler, whose proposals depend on the seed, the trial's number and the other trials alone.

    `propose` is the model's of the sampler `curves`, which without it draws at random.

    Raises:
        MissingDependencyError: the sampler needs a package that is not installed.
    """
    check_sampler(spec.sampler)
    if spec.sampler == CURVES and propose is not None:
        return RepeatableSampler(lambda seed: CurveSampler(spec.space, propose, seed), spec.seed, spec.space)
    return _repeatable(SAMPLERS[spec.sampler], spec)


def random_sampler(spec: StudySpec) -> BaseSampler:
    """Return a sampler that cannot fail."""
    return _repeatable(SAMPLERS["random"], spec)


def _repeatable(sampler: Sampler, spec: StudySpec) -> BaseSampler:
    build = without_experimental_warnings(sampler.build(spec))
    believed = starting_points(spec) if sampler.believes and not spec.open_space else []
    if not believed:
        return RepeatableSampler(lambda seed: build(seed=seed), spec.seed, spec.space)

    def believing(seed: int) -> BaseSampler:
        return BelievingSampler(
            build(seed=seed), space=spec.space, believed=believed, trials=spec.startup, seed=seed
        )

    return RepeatableSampler(believing, spec.seed, spec.space)
