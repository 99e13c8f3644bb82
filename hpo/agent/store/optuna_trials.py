"""The Optuna trial of a claim: found, taken from the enqueued ones, or created, and its configuration sampled."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from functools import cached_property, partial
from typing import Any

from optuna.distributions import distribution_to_json
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial

from hpo.agent.store.errors import TrialFinishedError
from hpo.agent.store.parameter_kinds import ParameterKinds
from hpo.agent.store.study_session import StudySession
from hpo.errors import StudyConflictError
from hpo.options.defaults import GRID
from hpo.search import finite
from hpo.search.asking import declared
from hpo.search.optuna_study import Search
from hpo.search.spec import StudySpec
from objectives.base import Params
from storage import attempts, configurations, repeats
from storage.claiming.claims import Claim
from storage.engine import Database
from storage.optuna import live_trials
from storage.optuna import trials as optuna_trials

log = logging.getLogger(__name__)

Configurations = Sequence[Mapping[str, Any]]


class OptunaTrials:
    """The trials of one study in Optuna's tables."""

    def __init__(
        self, session: StudySession, database: Database, study_id: int, spec: StudySpec, search: Search
    ) -> None:
        self._session = session
        self._begin = database.engine.begin
        self._study_id = study_id
        self._spec = spec
        self._search = search
        self._measures_noise = spec.repeats is not None or bool(spec.stop_when_flat)
        self._may_repeat = not spec.open_space and finite.may_repeat(spec.space)
        self._distributions = {name: distribution_to_json(found) for name, found in spec.space.items()}
        self._kinds = ParameterKinds(session, study_id)

    @cached_property
    def _order(self) -> Sequence[Params]:
        """All configurations of a finite space, in the order of the study; empty for any other space."""
        return finite.shuffled(self._spec.space, self._spec.seed)

    def sample(self, claim: Claim) -> tuple[int, int, Params]:
        """Return id, number and parameters of a claim's trial, which are created if missing.

        Raises:
            LeaseLostError: it took so long that another agent has taken the claim.
            TrialFinishedError: the trial is closed.
        """
        if claim.trial_id is not None and claim.number is not None:
            taken: int = claim.trial_id
            if claim.fresh:
                return taken, claim.number, self._suggest(claim, taken, claim.number)
            self._session.call(lambda: self._search.take_over(taken))
            if claim.params is not None:
                return taken, claim.number, dict(claim.params)
            return taken, claim.number, self._suggest(claim, taken, claim.number)
        maybe_created = not claim.fresh

        def create() -> tuple[int, int]:
            nonlocal maybe_created
            before, maybe_created = maybe_created, True
            return self._find_or_create(claim, maybe_created=before)

        trial_id, number = self._session.call(create)
        # Before sampling, so that the trial has an owner if this agent dies meanwhile.
        params: Params | None = {} if self._spec.open_space and not self._measures_noise else None
        self._session.statement(attempts.attach, claim.attempt_id, trial_id, number, params)
        if params is not None:
            self._session.call(lambda: self._search.asking.begin(trial_id))
            return trial_id, number, params
        return trial_id, number, self._suggest(claim, trial_id, number)

    def _suggest(self, claim: Claim, trial_id: int, number: int) -> Params:
        if self._spec.design is not None:
            return self._run_of_design(claim, trial_id, number)
        is_repeat = self._repeats(claim, trial_id)
        if self._spec.open_space:
            self._session.statement(attempts.attach, claim.attempt_id, trial_id, number, {})
            self._session.call(lambda: self._search.asking.begin(trial_id))
            return {}
        if self._may_repeat and not is_repeat:
            self._give(claim, trial_id)
        # With a claim that has created it, nothing has happened to it, unless it was given a configuration.
        is_known = claim.fresh and claim.trial_id is not None and not (is_repeat or self._may_repeat)
        return self._sampled(claim, trial_id, self._search.created(claim) if is_known else None)

    def _sampled(self, claim: Claim, trial_id: int, known: FrozenTrial | None) -> Params:
        """Return the parameters that a trial has from now on; it is not read first if it is `known`."""
        while True:
            try:
                proposal = self._session.call(partial(self._search.propose, trial_id, known))
            except UpdateFinishedTrialError as exc:
                raise TrialFinishedError from exc
            self._kinds.check(self._spec.space, proposal.unwritten)
            written = self._session.statement(
                live_trials.set_params,
                claim.attempt_id,
                proposal.unwritten,
                self._distributions,
                proposal.params,
            )
            if written is None:
                raise TrialFinishedError
            if written:
                return proposal.params
            known = None
            # An agent of an older version was stopped while it wrote this trial's parameters, and continues.

    def _run_of_design(self, claim: Claim, trial_id: int, number: int) -> Params:
        """Return the configuration of the run of an experiment that a trial is.

        Raises:
            StudyConflictError: the design has changed since this agent read it, and it does not know a parameter.
            TrialFinishedError: the trial is closed.
        """
        point = self._session.write(configurations.give_point, self._study_id, claim.attempt_id, trial_id)
        if point is None or not self._spec.space.keys() >= point.keys():
            raise StudyConflictError(
                "the experiment was extended while this agent was away: run the same command again"
            )
        space = self._spec.space
        params = {name: declared(space[name], point[name]) for name in space if name in point}
        internal = {name: space[name].to_internal_repr(value) for name, value in params.items()}
        write = live_trials.set_params
        written = self._session.statement(write, claim.attempt_id, internal, self._distributions, params)
        if written is None:
            raise TrialFinishedError
        if not written:
            # An earlier agent has written them, and did not keep them.
            self._session.statement(attempts.attach, claim.attempt_id, trial_id, number, params)
        return params

    def _repeats(self, claim: Claim, trial_id: int) -> bool:
        """Whether a trial repeats the best one, as a measure of noise; its configuration is set then."""
        if not self._measures_noise:
            return False
        contains = self._spec.contains if self._spec.space_changed else None
        return self._session.write(repeats.give, self._study_id, claim.attempt_id, trial_id, contains)

    def _give(self, claim: Claim, trial_id: int) -> None:
        """Give a trial a configuration that no other has, unless it was asked for."""
        space = self._spec.space
        fixed = self._session.call(lambda: self._search.fixed(trial_id))
        grid = self._spec.sampler == GRID
        proposed = None if grid else self._session.call(lambda: self._search.propose(trial_id)).params

        def choose(failed: Configurations, kept: Configurations) -> Params:
            tried = [finite.key(params) for params in failed], [finite.key(params) for params in kept]
            if proposed is None:
                return finite.untried(space, self._order, fixed, *tried)
            order = self._order or None
            return finite.untried_nearby(space, order, proposed, fixed, *tried, seed=claim.seed)

        self._session.write(configurations.give, self._study_id, claim.attempt_id, trial_id, proposed, choose)

    # Not retried one by one, because `sample` retries the whole.

    def _find_or_create(self, claim: Claim, *, maybe_created: bool) -> tuple[int, int]:
        """Return id and number of a claim's trial, which may have been created before an answer was lost."""
        found = self._find_created(claim.reservation_id) if maybe_created else None
        found = found or self._take_enqueued(claim)
        if found is not None:
            # Enqueued, created by a dead agent, or by us before the answer was lost.
            self._search.take_over(found[0])
        return found or self._search.create(claim)

    def _find_created(self, reservation_id: int) -> tuple[int, int] | None:
        with self._begin() as connection:
            return optuna_trials.find_created(connection, self._study_id, reservation_id)

    def _take_enqueued(self, claim: Claim) -> tuple[int, int] | None:
        """Give a claim the earliest enqueued trial; those outside the space are refused.

        The known good configurations of the objective come first.
        """
        if claim.ordinal < len(self._spec.first) or self._spec.design is not None:
            return None
        while True:
            with self._begin() as connection:
                taken = optuna_trials.attached(connection, claim.reservation_id)
                found = taken or optuna_trials.next_enqueued(connection, self._study_id)
            if found is None or taken is not None:
                return found
            reason = self._search.refuse_outside(found[0])
            if reason is not None:
                log.warning(f"trial {found[1]}, which was enqueued, is not trained: {reason}")
                continue
            with self._begin() as connection:
                if optuna_trials.take_enqueued(connection, self._study_id, claim.attempt_id, *found):
                    return found
