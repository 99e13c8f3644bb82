"""Spaces in which samplers may propose a configuration twice: all of a finite one, and those that are not tried yet."""

from __future__ import annotations

import itertools
import math
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
from objectives.spaces.space import conditions_of, is_active, parents_first

MOST = 10_000
"""Configurations of the largest space that is enumerated."""

NEIGHBOURS = 500
"""Configurations that are drawn around a proposal in a space that is not enumerated."""


def may_repeat(space: Mapping[str, BaseDistribution]) -> bool:
    """Whether a sampler may propose a configuration twice: no parameter with endlessly many values is always active."""
    return not any(_is_endless(dist) and name not in conditions_of(space) for name, dist in space.items())


def continuous(space: Mapping[str, BaseDistribution]) -> str | None:
    """Return the first parameter with endlessly many values, if there is one."""
    return next((name for name, dist in space.items() if _is_endless(dist)), None)


def _is_endless(dist: BaseDistribution) -> bool:
    return isinstance(dist, FloatDistribution) and dist.step is None and not dist.single()


def size(space: Mapping[str, BaseDistribution]) -> int | None:
    """Return the number of configurations of a space; None if there are more than `MOST`."""
    if continuous(space) is not None:
        return None
    if not conditions_of(space):
        number = math.prod(number_of_values(dist) for dist in space.values())
        return int(number) if number <= MOST else None
    found = configurations(space)
    return None if found is None else len(found)


def number_of_values(dist: BaseDistribution) -> float:
    """Return the number of values of a parameter; infinity for endlessly many."""
    if _is_endless(dist):
        return math.inf
    match dist:
        case CategoricalDistribution():
            return len(dist.choices)
        case IntDistribution():
            return (dist.high - dist.low) // dist.step + 1
        case FloatDistribution(low=low, high=high, step=step) if step is not None:
            return round((high - low) / step) + 1
    return 1


def problem(space: Mapping[str, BaseDistribution]) -> str | None:
    """Return why the configurations of a space cannot be enumerated, and what to do; None if they can."""
    name = continuous(space)
    if name is not None:
        values = f"-p {name}=VALUE,VALUE"
        return f"{name} has endlessly many values: list those to try, as in {values}, or use another sampler"
    if size(space) is None:
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
    for value in values(space[name]):
        yield from _completed(space, others, {**params, name: value})


def values(distribution: BaseDistribution) -> Iterator[Any]:
    """Yield all values of a parameter in order; it must not have endlessly many."""
    match distribution:
        case CategoricalDistribution():
            yield from distribution.choices
        case IntDistribution():
            yield from range(distribution.low, distribution.high + 1, distribution.step)
        case FloatDistribution(step=step) if step is not None:
            yield from (_stepped(distribution, place) for place in range(int(number_of_values(distribution))))
        case FloatDistribution(low=low):
            yield low


def _stepped(dist: FloatDistribution, place: int) -> float:
    """Return a value of a float with a step, by the arithmetic of Optuna's samplers: equal to the last digit."""
    assert dist.step is not None
    return min(dist.low + place * dist.step, dist.high)


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


def untried_nearby(
    space: Mapping[str, BaseDistribution],
    order: Sequence[Params] | None,
    proposed: Params,
    fixed: Params,
    tried: Collection[str],
    kept: Collection[str],
    seed: int,
) -> Params:
    """Return the proposed configuration, or the nearest one that is in neither `tried` nor `kept`, as in `untried`.

    `order` holds all configurations of a finite space; of any other, some are drawn from the seed, which decides
    between equally near ones too. Where all that have the values in `fixed` are kept, it is the proposal.
    """
    if order is not None:
        proposed = next((params for params in order if _has(space, params, proposed)), proposed)
    if fixed.keys() >= proposed.keys():
        return proposed
    if key(proposed) not in {*tried, *kept}:
        return proposed
    free = [name for name in proposed if name not in fixed]
    others = list(order) if order is not None else [*_neighbours(space, proposed, free, seed)]
    random.Random(seed).shuffle(others)
    others = [params for params in others if _has(space, params, fixed)]
    for avoided in ({*tried, *kept}, {*kept}):
        left = [params for params in (proposed, *others) if key(params) not in avoided]
        if left:
            return min(left, key=lambda params: _distance(space, params, proposed))
    return proposed


def _neighbours(
    space: Mapping[str, BaseDistribution], params: Params, free: Sequence[str], seed: int
) -> Iterator[Params]:
    """Draw configurations in which more and more of the free parameters have other values."""
    generator = random.Random(seed)
    for place in range(NEIGHBOURS):
        changed = generator.sample(free, 1 + place * len(free) // NEIGHBOURS)
        found: Params = {}
        for name in parents_first(space):
            if is_active(space, name, found):
                keeps = name in params and name not in changed
                found[name] = params[name] if keeps else _drawn(space[name], generator)
        yield {name: found[name] for name in space if name in found}


def _drawn(dist: BaseDistribution, generator: random.Random) -> Any:
    match dist:
        case IntDistribution(log=False):
            return generator.randrange(dist.low, dist.high + 1, dist.step)
        case IntDistribution(low=low, high=high):
            return min(high, max(low, round(math.exp(generator.uniform(math.log(low), math.log(high))))))
        case FloatDistribution(low=low, high=high, step=None, log=log):
            return (
                math.exp(generator.uniform(math.log(low), math.log(high)))
                if log
                else generator.uniform(low, high)
            )
        case CategoricalDistribution():
            return generator.choice(dist.choices)
        case FloatDistribution():
            # There may be too many values for a list.
            return _stepped(dist, generator.randrange(int(number_of_values(dist))))
    raise AssertionError(f"unknown distribution {dist!r}")


def _distance(space: Mapping[str, BaseDistribution], one: Params, other: Params) -> float:
    """Return the sum over parameters of their distances, each from 0 to 1; 1 where only one of the two has it."""
    return sum(
        abs(_place(space[name], one[name]) - _place(space[name], other[name]))
        if (shared := name in one and name in other) and _is_ordered(space[name])
        else float(not shared or not _same(space[name], one[name], other[name]))
        for name in one.keys() | other.keys()
    )


def nearest(dist: BaseDistribution, value: Any, others: Sequence[Any], seed: int) -> Any:
    """Return the one of other values of a parameter that is nearest; the seed chooses between equally near ones."""
    shuffled = list(others)
    random.Random(seed).shuffle(shuffled)
    return min(shuffled, key=lambda other: _distance({"": dist}, {"": other}, {"": value}))


def _is_ordered(dist: BaseDistribution) -> bool:
    return not isinstance(dist, CategoricalDistribution) or all(
        isinstance(choice, int | float) and not isinstance(choice, bool) for choice in dist.choices
    )


def _place(dist: BaseDistribution, value: Any) -> float:
    """Return the place of a number in its range, or among choices that are numbers, from 0 to 1."""
    if isinstance(dist, CategoricalDistribution):
        return sorted(dist.choices).index(value) / max(1, len(dist.choices) - 1)  # type: ignore[type-var]
    assert isinstance(dist, IntDistribution | FloatDistribution)
    low, high, found = (math.log(end) if dist.log else float(end) for end in (dist.low, dist.high, value))
    return (found - low) / (high - low or 1.0)


def key(params: Mapping[str, Any]) -> str:
    """Return a text that equal configurations share."""
    return identity(dict(sorted(params.items())))
