"""Trials of an open space: the parameters, attributes and constraints that their objectives name while they run."""

from __future__ import annotations

from collections.abc import Sequence

from optuna.distributions import distribution_to_json, json_to_distribution

from hpo.agent.store.errors import TrialFinishedError
from hpo.agent.store.parameter_kinds import ParameterKinds
from hpo.agent.store.study_session import StudySession
from hpo.search.asking import Asking
from hpo.search.open_overrides import narrowed
from hpo.search.optuna_study import CONSTRAINT
from hpo.trainer.messages import Annotate, Constrain
from objectives.base import Params
from objectives.spaces.choices import stored_distribution
from storage.optuna import live_trials


class OpenTrials:
    """The live trials of one agent, whose objectives name their parameters."""

    def __init__(
        self, session: StudySession, study_id: int, asking: Asking, narrowing: Sequence[str] = ()
    ) -> None:
        """`narrowing` are the texts of `--param`."""
        self._session = session
        self._asking = asking
        self._narrowing = narrowing
        self._kinds = ParameterKinds(session, study_id)

    def suggest(self, attempt_id: int, trial_id: int, name: str, distribution: str, params: Params) -> Params:
        """Sample a parameter of a trial that has `params`; return them with it.

        Raises:
            ValueError: other trials have a parameter of this name with other choices or of another kind.
            InvalidParameterError: a `--param` lies outside of it.
            LeaseLostError, TrialFinishedError: the trial is another agent's, or closed.
        """
        found = narrowed(name, stored_distribution(json_to_distribution(distribution)), self._narrowing)
        self._kinds.check({name: found}, [name])
        drawn = self._session.call(lambda: self._asking.suggest(trial_id, name, found))
        params = {**params, name: drawn.value}
        written = (name, drawn.internal, distribution_to_json(found), params)
        if not self._session.statement(live_trials.set_param, attempt_id, *written):
            raise TrialFinishedError
        return params

    def annotate(self, attempt_id: int, event: Annotate | Constrain) -> None:
        """Keep an attribute of a trial, or a constraint, which is set once.

        Raises:
            LeaseLostError, TrialFinishedError: the trial is another agent's, or closed.
        """
        write = live_trials.set_attribute
        if isinstance(event, Annotate):
            is_open = self._session.statement(write, attempt_id, "user", event.name, event.value, once=False)
        else:
            key = f"{CONSTRAINT}{event.name}"
            is_open = self._session.statement(write, attempt_id, "system", key, event.value, once=True)
        if not is_open:
            raise TrialFinishedError
