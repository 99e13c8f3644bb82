"""A study in Optuna: proposes, prunes and stores trials.

Optuna's calls do not survive a database outage, so each is made repeatable here: a trial is created with
the id of its reservation as an attribute, by which it is found again if the answer to its creation was lost.
"""

from __future__ import annotations

import copy
import logging
import warnings
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages._cached_storage import _CachedStorage
from optuna.trial import FrozenTrial, TrialState, create_trial

from hpo.errors import HpoError
from hpo.outcomes import Outcome
from hpo.search.asking import QUIET, STARTING_ATTRIBUTE, Asking, Unwritten, suggested
from hpo.search.curve_model.sampler import Propose
from hpo.search.proposing import Proposal, proposing
from hpo.search.pruners import PRUNERS, build_pruner, freeze_thaw_of
from hpo.search.samplers import SAMPLERS, build_sampler, random_sampler
from hpo.search.space import params_problem
from hpo.search.spec import StudySpec
from hpo.search.starting.starting_points import starting_points
from hpo.search.views.front_storage import FrontStorage
from hpo.search.views.paused_trials import PausedTrials
from hpo.search.views.subsampled_storage import SubsampledStorage
from objectives.base import Params
from objectives.spaces.space import is_active, parents_first
from storage.attempts import RUNG_PREFIX
from storage.claiming.claims import Claim
from storage.connection.retry import is_of_database
from storage.optuna.trials import REFUSAL_ATTRIBUTE, RESERVATION_ATTRIBUTE
from storage.repeats import ATTRIBUTE

log = logging.getLogger(__name__)

CONSTRAINT = "constraints:"
"""Beginning of the names of the attributes in which Optuna keeps constraints."""


class Search:
    """An agent's view of an Optuna study."""

    def __init__(
        self,
        study_id: int,
        spec: StudySpec,
        storage: optuna.storages.BaseStorage,
        read_paused: Callable[[], Mapping[int, int]] = dict,
        propose: Propose | None = None,
    ) -> None:
        """`read_paused` returns the epochs at which freeze-thaw has paused trials, by Optuna's trial_id.

        `propose` is the model's, for `--sampler curves`.
        """
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._spec = spec
        self._study_id = study_id
        # Plain Optuna may have renamed the study.
        name = storage.get_study_name_from_id(study_id)
        self._study = optuna.load_study(
            study_name=name,
            storage=storage,
            sampler=build_sampler(spec, propose),
            pruner=build_pruner(spec),
        )
        view: optuna.storages.BaseStorage = storage
        if spec.also_minimize is not None:
            view = FrontStorage(view, spec.also_minimize)
        elif SAMPLERS[spec.sampler].subsamples:
            view = SubsampledStorage(view, self._study.direction)
        if (rule := freeze_thaw_of(spec)) is not None:
            view = PausedTrials(view, storage, self._study.direction, rule, read_paused)
        self._proposing = self._study
        if view is not storage:
            self._proposing = optuna.load_study(
                study_name=name, storage=view, sampler=self._study.sampler, pruner=self._study.pruner
            )
        self._view = view
        self._storage = storage
        self._judged: dict[int, FrozenTrial] = {}
        self.asking = Asking(self._proposing, self._at_random)
        """Trials of an open space."""

    def create(self, claim: Claim) -> tuple[int, int]:
        """Create a running trial for a reservation and return Optuna's trial_id and number."""
        trial_id = self._storage.create_new_trial(self._study_id, template_trial=self.created(claim))
        return trial_id, self._storage.get_trial_number_from_id(trial_id)

    def created(self, claim: Claim) -> FrozenTrial:
        """Return the trial of a reservation as it is created, without reading it."""
        first = self.first_attributes
        trial = create_trial(
            state=TrialState.RUNNING,
            user_attrs={RESERVATION_ATTRIBUTE: claim.reservation_id},
            system_attrs=first[claim.ordinal] if claim.ordinal < len(first) else {},
        )
        if claim.trial_id is not None and claim.number is not None:
            trial._trial_id, trial.number = claim.trial_id, claim.number
        return trial

    @cached_property
    def first_attributes(self) -> list[dict[str, Any]]:
        """System attributes of the study's first trials, in their order: the configurations that they get."""
        marks = {STARTING_ATTRIBUTE: True} if self._spec.open_space else {}
        return [{"fixed_params": point, **marks} for point in starting_points(self._spec)]

    def fixed(self, trial_id: int) -> Params:
        """Return the values that a trial was created or enqueued with."""
        return dict(self._storage.get_trial(trial_id).system_attrs.get("fixed_params", {}))

    def propose(self, trial_id: int, known: FrozenTrial | None = None) -> Proposal:
        """Return a value for every active parameter of the space; values that the trial has already are kept.

        The trial is not read if it is `known`.
        """
        try:
            return self._propose_by(proposing(self._proposing, trial_id, known))
        except UpdateFinishedTrialError:
            raise
        except Exception as exc:
            if isinstance(exc, HpoError) or is_of_database(exc):
                raise
            # Values of other trials may exceed the sampler's arithmetic: this one is drawn at random.
            log.warning(f"the sampler failed ({type(exc).__name__}: {exc}): a trial is sampled at random")
        return self._propose_by(proposing(self._at_random(), trial_id, known))

    def _propose_by(self, trial: optuna.Trial) -> Proposal:
        with np.errstate(**QUIET):
            params = self._active(lambda name, dist: suggested(trial, name, dist))
        assert isinstance(trial.storage, Unwritten)
        return Proposal(params=params, unwritten=dict(trial.storage.internal))

    def _active(self, value: Callable[[str, BaseDistribution], Any]) -> Params:
        """Return the value of each active parameter in the order of the space; parents are asked for first."""
        space, found = self._spec.space, dict[str, Any]()
        for name in parents_first(space):
            if is_active(space, name, found):
                found[name] = value(name, space[name])
        return {name: found[name] for name in space if name in found}

    def _at_random(self) -> optuna.Study:
        study = copy.copy(self._study)
        study.sampler = random_sampler(self._spec)
        return study

    def take_over(self, trial_id: int) -> None:
        """Refresh a trial that another process may have created or trained; start a waiting one."""
        self.forget(trial_id)
        # Optuna's cache never reads a closed trial again, and this one may have been opened since.
        self._forget(trial_id)
        # It writes only to trials that it has read.
        self._view.get_all_trials(self._study_id, deepcopy=False)
        if self._storage.get_trial(trial_id).state is TrialState.WAITING:
            self._storage.set_trial_state_values(trial_id, TrialState.RUNNING)

    def _forget(self, trial_id: int) -> None:
        cache = self._storage
        if isinstance(cache, _CachedStorage) and self._study_id in cache._studies:
            with cache._lock:
                cache._studies[self._study_id].unfinished_trial_ids.add(trial_id)

    def refuse_outside(self, trial_id: int) -> str | None:
        """Fail an enqueued trial whose values lie outside the space; return the reason, or None if all lie inside."""
        self._storage.get_all_trials(self._study_id, deepcopy=False)
        trial = self._storage.get_trial(trial_id)
        if self._spec.open_space:
            return None
        reason = params_problem(trial.system_attrs.get("fixed_params", {}), self._spec.space, partial=True)
        if reason is not None and trial.state is TrialState.WAITING:
            self._storage.set_trial_user_attr(trial_id, REFUSAL_ATTRIBUTE, reason)
            self._storage.set_trial_state_values(trial_id, TrialState.FAIL)
        return reason

    def note(self, trial_id: int, step: int, value: float) -> None:
        """Note a value that was reported to Optuna, for the pruner."""
        if trial_id in self._judged:
            self._judged[trial_id].intermediate_values[step] = value

    def should_prune(self, trial_id: int) -> bool:
        """Return whether the pruner ends this trial."""
        match PRUNERS[self._spec.pruner].reads:
            case "nothing" | "rungs":
                return False
            case "reports":
                # This agent made the reports, so it need not read them from the database.
                if trial_id not in self._judged:
                    self._judged[trial_id] = self._storage.get_trial(trial_id)
                trial = self._judged[trial_id]
            case "attributes":
                trial = self._storage.get_trial(trial_id)
        # A measure of noise must not depend on its values.
        return ATTRIBUTE not in trial.user_attrs and self._judge(trial)

    def replay(self, trial_id: int) -> None:
        """Let the pruner judge the epochs of a resumed trial again, if its notes on them were deleted."""
        if PRUNERS[self._spec.pruner].reads != "attributes":
            return
        trial = self._storage.get_trial(trial_id)
        values = trial.intermediate_values
        if any(name.startswith(RUNG_PREFIX) for name in trial.system_attrs):
            return
        for step in sorted(values):
            trial = self._storage.get_trial(trial_id)
            trial.intermediate_values = {epoch: value for epoch, value in values.items() if epoch <= step}
            # It was decided then that the trial continues; only the pruner's notes are wanted.
            self._judge(trial)

    def _judge(self, trial: FrozenTrial) -> bool:
        with np.errstate(**QUIET), warnings.catch_warnings():
            # The median pruner would warn of each trial that reports NaN alone.
            warnings.filterwarnings("ignore", "All-NaN", RuntimeWarning)
            return self._study.pruner.prune(self._study, trial)

    def tell(self, trial_id: int, number: int, outcome: Outcome, value: float | None) -> None:
        """Close a trial in Optuna, if it is still open."""
        if outcome.is_infeasible:
            trial = self._storage.get_trial(trial_id)
            # A violated one shows the sampler already by how much.
            if not trial.state.is_finished() and not any(value > 0 for value in trial.constraints.values()):
                # Whatever the objective itself has set under this name.
                self._storage.set_trial_system_attr(trial_id, f"{CONSTRAINT}{outcome}", 1.0)
        state = TrialState[outcome.optuna_state]
        values = value if state is TrialState.COMPLETE else None
        self._study.tell(number, values, state=state, skip_if_finished=True)
        self.forget(trial_id)

    def forget(self, trial_id: int) -> None:
        """Forget the reports and parameters of a trial that has ended, or that another process may have trained."""
        self._judged.pop(trial_id, None)
        self.asking.forget(trial_id)
