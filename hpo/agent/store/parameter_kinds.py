"""The kinds of a study's parameters: all trials that have a parameter have it with choices of the same kind."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from optuna.distributions import (
    BaseDistribution,
    check_distribution_compatibility,
    json_to_distribution,
)

from hpo.agent.store.study_session import StudySession
from hpo.search.space import describe_distribution
from storage.optuna import live_trials


class ParameterKinds:
    """The distributions with which a study first asked for its parameters, each read once."""

    def __init__(self, session: StudySession, study_id: int) -> None:
        self._session = session
        self._study_id = study_id
        self._known: dict[str, BaseDistribution] = {}

    def check(self, space: Mapping[str, BaseDistribution], names: Iterable[str]) -> None:
        """Raise ValueError if other trials have a parameter with other choices or of another kind."""
        for name in names:
            if name not in self._known:
                stored = self._session.statement(live_trials.first_distribution, self._study_id, name)
                self._known[name] = space[name] if stored is None else json_to_distribution(stored)
            known = self._known[name]
            try:
                check_distribution_compatibility(known, space[name])
            except ValueError as exc:
                raise ValueError(
                    f"parameter {name!r} was {describe_distribution(known)} when the study first asked for it, and is"
                    f" now {describe_distribution(space[name])}: give parameters of other choices or of another kind a"
                    " name of their own"
                ) from exc
