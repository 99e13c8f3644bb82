"""Duplicates in an open space: values of a parameter after which all that the objective asks for was tried."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, TrialState

from hpo.search import finite
from objectives.spaces.choices import identity

MOST_VALUES = 1000
"""Values of a parameter that may all be tried; more are as good as endless."""


def tried(trials: Sequence[FrozenTrial], number: int) -> list[FrozenTrial]:
    """Return the trials that have asked for all of their parameters, without the one of this number.

    A running one has once it reports a value.
    """
    return [
        trial
        for trial in trials
        if trial.number != number
        and (
            trial.state in (TrialState.COMPLETE, TrialState.PRUNED)
            or (trial.state == TrialState.RUNNING and trial.intermediate_values)
        )
    ]


def untried_value(
    trials: Sequence[FrozenTrial],
    params: Mapping[str, Any],
    name: str,
    distribution: BaseDistribution,
    proposed: Any,
    seed: int,
) -> tuple[Any, bool]:
    """Return the proposed value, or the nearest one after which something is left to try; the seed breaks ties.

    The distribution must be countable; `params` are the values that the trial has already. Where all was tried, it is
    the proposal, and False.
    """
    same = [trial for trial in trials if _has(trial, params)]
    asked = {*params, name}

    def is_left(value: Any) -> bool:
        return not _is_explored([trial for trial in same if _has(trial, {name: value})], asked)

    if is_left(proposed):
        return proposed, True
    left = [value for value in finite.values(distribution) if is_left(value)]
    return (finite.nearest(distribution, proposed, left, seed), True) if left else (proposed, False)


def _has(trial: FrozenTrial, params: Mapping[str, Any]) -> bool:
    found = trial.params
    return all(name in found and identity(found[name]) == identity(value) for name, value in params.items())


def is_countable(distribution: BaseDistribution) -> bool:
    """Whether all values of a parameter may be tried."""
    return finite.number_of_values(distribution) <= MOST_VALUES


def _is_explored(trials: Sequence[FrozenTrial], asked: set[str]) -> bool:
    """Whether trials that agree in the parameters `asked` have all continuations that the objective may ask for."""
    if not trials:
        return False
    if any(trial.params.keys() <= asked for trial in trials):
        return True
    common = set.intersection(*(set(trial.params) for trial in trials)) - asked
    name = next((name for name in trials[0].params if name in common), None)
    if name is None or not is_countable(trials[0].distributions[name]):
        return False
    return all(
        _is_explored([trial for trial in trials if _has(trial, {name: value})], {*asked, name})
        for value in finite.values(trials[0].distributions[name])
    )
