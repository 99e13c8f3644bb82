"""Spaces of finitely many configurations: all of them, and the ones that a study has not tried."""

from __future__ import annotations

import itertools
import random
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from objectives.base import Params
from objectives.spaces.choices import identity
from objectives.spaces.space import is_active, parents_first

MOST = 10_000
"""Configurations of the largest space that is enumerated."""


def continuous(space: Mapping[str, BaseDistribution]) -> str | None:
    """Return the first parameter with endlessly many values, if there is one."""
    for name, dist in space.items():
        if isinstance(dist, FloatDistribution) and dist.step is None and not dist.single():
            return name
    return None


def problem(space: Mapping[str, BaseDistribution]) -> str | None:
    """Return why the configurations of a space cannot be enumerated, and what to do; None if they can."""
    name = continuous(space)
    if name is not None:
        values = f"-p {name}=VALUE,VALUE"
        return f"{name} has endlessly many values: list those to try, as in {values}, or use another sampler"
    if configurations(space) is None:
        return (
            f"the space has more than {MOST} configurations: narrow it with --param, or use another sampler"
        )
    return None


def configurations(space: Mapping[str, BaseDistribution]) -> list[Params] | None:
    """Return all configurations of a space in its order; None if there are more than `MOST`."""
    if continuous(space) is not None:
        return None
    found = list(itertools.islice(_completed(space, parents_first(space), {}), MOST + 1))
    return found if len(found) <= MOST else None


def _completed(
    space: Mapping[str, BaseDistribution], names: Sequence[str], params: Params
) -> Iterator[Params]:
    if not names:
        yield {name: params[name] for name in space if name in params}
        return
    name, *others = names
    if not is_active(space, name, params):
        yield from _completed(space, others, params)
        return
    for value in _values(space[name]):
        yield from _completed(space, others, {**params, name: value})


def _values(distribution: BaseDistribution) -> Iterator[Any]:
    match distribution:
        case CategoricalDistribution():
            yield from distribution.choices
        case IntDistribution():
            yield from range(distribution.low, distribution.high + 1, distribution.step)
        case FloatDistribution(low=low, high=high, step=step) if step is not None:
            # The arithmetic of Optuna's samplers, so that values are equal to the last digit.
            yield from (min(low + place * step, high) for place in range(round((high - low) / step) + 1))
        case FloatDistribution(low=low):
            yield low


def shuffled(space: Mapping[str, BaseDistribution], seed: int) -> list[Params]:
    """Return all configurations of a space in an order that a study's seed shuffles."""
    order = configurations(space) or []
    random.Random(seed).shuffle(order)
    return order


def untried(
    space: Mapping[str, BaseDistribution],
    order: Sequence[Params],
    fixed: Params,
    tried: Collection[str],
    kept: Collection[str],
) -> Params:
    """Return the next configuration of a study in `order` that has the values in `fixed`.

    It is in neither `tried` nor `kept`, which hold configurations by `key`; else only not in `kept`, whose trials have
    finished or will; else any, because someone has asked for these values again.
    """
    matching = [params for params in order if _has(space, params, fixed)] if fixed else order
    for avoided in ({*tried, *kept}, {*kept}):
        for params in matching:
            if key(params) not in avoided:
                return params
    return matching[0] if matching else dict(fixed)


def _has(space: Mapping[str, BaseDistribution], params: Params, fixed: Params) -> bool:
    return all(name in params and _same(space[name], params[name], value) for name, value in fixed.items())


def _same(distribution: BaseDistribution, one: Any, other: Any) -> bool:
    match distribution:
        case CategoricalDistribution():
            return identity(one) == identity(other)
        # Someone may have rounded it.
        case FloatDistribution(low=low, step=step) if step is not None:
            return bool(round((one - low) / step) == round((other - low) / step))
        case _:
            return bool(one == other)


def key(params: Mapping[str, Any]) -> str:
    """Return a text that equal configurations share."""
    return identity(dict(sorted(params.items())))
