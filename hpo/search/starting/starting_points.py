"""Configurations that are tried before the sampler proposes any: known good ones, and the best of earlier studies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import zip_longest

from optuna.distributions import BaseDistribution

from hpo.search.spec import StudySpec
from objectives.base import Params
from objectives.spaces.choices import contains, identity, same_params
from objectives.spaces.space import activity, parents_first

OF_EARLIER = 3
"""Most configurations of earlier studies that are tried; fewer where the sampler has fewer trials to start."""


def starting_points(spec: StudySpec) -> list[Params]:
    """Return the configurations of a study's first trials, by their order; the sampler draws missing parameters."""
    found = [dict(params) for params in spec.first]
    most = len(found) + min(OF_EARLIER, spec.startup // 2)
    ranked = zip_longest(*(inside(spec, one.configurations) for one in spec.learned))
    for params in (one for of_rank in ranked for one in of_rank if one is not None):
        if len(found) == most:
            break
        if not any(same_params(params, other, spec.space) for other in found):
            found.append(params)
    return found


def inside(spec: StudySpec, configurations: Sequence[Params]) -> Sequence[Params]:
    """Return configurations as far as they lie inside the space, of an open one as they are."""
    return configurations if spec.open_space else known_good_parts(configurations, spec.space)


def known_good_parts(first: Sequence[Params], space: Mapping[str, BaseDistribution]) -> tuple[Params, ...]:
    """Return the part of each known good configuration inside a (narrowed) space; the sampler fills the rest.

    Of different configurations that the narrowing has made equal, only the first one is kept.
    """
    origins: dict[str, str] = {}
    found = []
    for params in first:
        part = _part(params, space)
        if part and origins.setdefault(identity(part), identity(dict(params))) == identity(dict(params)):
            found.append(part)
    return tuple(found)


def _part(params: Params, space: Mapping[str, BaseDistribution]) -> Params:
    found: Params = {}
    for name in parents_first(space):
        # A value whose condition the sampler may or may not fulfil is left out.
        if name in params and contains(space[name], params[name]) and activity(space, name, found):
            found[name] = params[name]
    return {name: found[name] for name in space if name in found}
