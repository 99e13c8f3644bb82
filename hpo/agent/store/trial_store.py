"""An agent's reads and writes of one study; each survives an outage and can be repeated.

Every decision is committed to our own tables under the attempt's lease, mostly together with Optuna's; else it is then
reported to Optuna, then marked as reported. A later agent completes the steps that a dead one has left out.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, NoReturn, TypeVar

from hpo.agent.leases import LeaseMonitor
from hpo.agent.store.claiming import Claiming
from hpo.agent.store.errors import TrialClosedError, TrialFinishedError
from hpo.agent.store.figures import TrialFigures
from hpo.agent.store.judgement import Judgement
from hpo.agent.store.open_trials import OpenTrials
from hpo.agent.store.optuna_trials import OptunaTrials
from hpo.agent.store.reports import Reports
from hpo.agent.store.snapshots import Snapshots, StudySnapshot
from hpo.agent.store.study_session import StudySession
from hpo.agent.store.tells import STALE_SECONDS, Tells
from hpo.agent.store.trial_files import TrialFiles
from hpo.devices.provenance import DATA, training_environment
from hpo.outcomes import Outcome
from hpo.process.identity import host_name, is_dead
from hpo.search.optuna_study import Search
from hpo.search.pruners import freeze_thaw_of
from hpo.search.spec import StudySpec
from hpo.study.definition import versions
from hpo.study.definition.versions import Trained
from hpo.trainer.messages import Annotate, Constrain, EpochRecord
from objectives.base import Params
from objectives.device import Device
from objectives.trial_value import Reported
from storage import agents, attempts, budget, leases
from storage.budget import Counts, Failure, Rejections
from storage.claiming.claims import Claim, NoWork
from storage.connection.retry import Retry
from storage.engine import Connection, Database
from storage.freeze_thaw import pauses
from storage.leases import LeaseTimes

log = logging.getLogger(__name__)

if TYPE_CHECKING:
    from hpo.agent.store.advisor import Advisor

T = TypeVar("T")

CLOSED_OUTSIDE = "its Optuna trial was closed by another program, outside this service"


class TrialStore:
    """One agent's access to the trials of one study."""

    def __init__(
        self,
        database: Database,
        study_id: int,
        name: str,
        spec: StudySpec,
        devices: Sequence[Device],
        retry: Retry,
        times: LeaseTimes,
    ) -> None:
        self.times = times
        self.name = name
        self.spec = spec
        self.host = host_name()
        self._study_id = study_id
        self._session = StudySession(database, study_id, name, retry)
        self._write, self._call = self._session.write, self._session.call
        self._statement = self._session.statement
        self._lease_monitor = LeaseMonitor(times)
        self._data = ""
        self._advisor = self._new_advisor(study_id)
        trained = training_environment(devices[0]) | Trained(spec.code, spec.data.digest).versions
        self.agent_id = self._session.join(len(devices), trained, times.lease_seconds)
        self._search = self._call(
            lambda: Search(
                study_id,
                spec,
                database.optuna,
                self._read_paused,
                None if self._advisor is None else self._advisor.propose,
            )
        )
        self._claiming = Claiming(
            self._session,
            study_id,
            spec,
            self._search,
            self._advisor,
            agent_id=self.agent_id,
            lease_seconds=times.lease_seconds,
        )
        self._optuna_trials = OptunaTrials(self._session, database, study_id, spec, self._search)
        self._open_trials = OpenTrials(self._session, study_id, self._search.asking, spec.narrowing)
        self._figures = TrialFigures(self._session, spec)
        self._reports = Reports(self._session, spec)
        self._tells = Tells(self._session, study_id, self._search)
        self.judgement = Judgement(self._session, study_id, spec, self._search, self._advisor, self._closed)
        self.files = TrialFiles(self._session, study_id)
        self._snapshots = Snapshots(self._session, study_id, maximize=spec.direction == "maximize")

    def _new_advisor(self, study_id: int) -> Advisor | None:
        rule = freeze_thaw_of(self.spec)
        if rule is None or not rule.modelled:
            return None
        # SciPy's optimizers, which most studies do not need, take 0.2 s to import.
        from hpo.agent.store.advisor import Advisor

        return Advisor(self._session, study_id, self.spec, rule)

    def claim(self, slot: int, device: str) -> Claim | NoWork:
        """Reserve a trial for a slot, or return the reason why there is none."""
        return self._claiming.claim(slot, device)

    def sample(self, claim: Claim) -> tuple[int, int, Params]:
        """Return the Optuna trial of a claim: id, number and parameters, which are created if missing.

        Raises:
            LeaseLostError: it took so long that another agent has taken the claim.
        """
        try:
            return self._optuna_trials.sample(claim)
        except TrialFinishedError:
            self._closed(claim.attempt_id)

    def suggest(self, attempt_id: int, trial_id: int, name: str, distribution: str, params: Params) -> Params:
        """Sample a parameter of a trial with an open space that has `params`; return them with it.

        Raises:
            ValueError: other trials have a parameter of this name with other choices or of another kind.
            LeaseLostError: another agent holds the trial.
        """
        try:
            return self._open_trials.suggest(attempt_id, trial_id, name, distribution, params)
        except TrialFinishedError:
            self._closed(attempt_id)

    def annotate(self, attempt_id: int, event: Annotate | Constrain) -> None:
        """Keep an attribute or a constraint of a trial in Optuna.

        Raises:
            LeaseLostError: another agent holds the trial.
        """
        try:
            self._open_trials.annotate(attempt_id, event)
        except TrialFinishedError:
            self._closed(attempt_id)

    def measure(self, attempt_id: int, figures: Mapping[str, float], *, once: bool = True) -> None:
        """Keep figures of a trial, and by how much they violate the study's constraints, in Optuna.

        `once`: those of an earlier attempt stay.

        Raises:
            LeaseLostError: another agent holds the trial.
        """
        try:
            self._figures.keep(attempt_id, figures, once=once)
        except TrialFinishedError:
            self._closed(attempt_id)

    def figures_of_epochs(self, attempt_id: int, epoch: int, known: Collection[str]) -> Mapping[str, float]:
        """Return the figures that a trained trial has after an epoch, without the `known` ones, and keep them.

        Raises:
            LeaseLostError: another agent holds the trial.
        """
        found = self._figures.of_epochs(attempt_id, epoch, known)
        # A trial that was complete before may have trained on.
        self.measure(attempt_id, found, once=False)
        return found

    def rejections(self) -> Rejections:
        """Return the configurations that were rejected in a row."""
        return self._write(budget.rejections, self._study_id)

    def assign_slot(self, attempt_id: int, slot: int, device: str) -> None:
        """Record the slot of a prefetched attempt.

        Raises:
            LeaseLostError: an agent with an idle slot has taken its trial.
        """
        self._statement(attempts.place, attempt_id, slot, device)

    def begin(self, attempt_id: int, pid: int, resumed_from: int) -> None:
        self._statement(attempts.begin, attempt_id, pid, resumed_from)

    def hold(self, attempt_id: int) -> None:
        """Note that a trainer waits, because the study is paused."""
        self._write(attempts.hold, attempt_id)

    def unhold(self) -> None:
        """Note that the trainers continue."""
        self._statement(attempts.unhold, self.agent_id)

    def record(self, attempt_id: int, trial_id: int, records: Sequence[EpochRecord]) -> list[Reported]:
        """Store epochs and report them to Optuna; return the metric that is valid for each, by epoch."""
        found, is_open = self._reports.record(attempt_id, records)
        if not is_open:
            self._closed(attempt_id)
        for one in found:
            self._search.note(trial_id, one.step, one.value)
        return found

    def settle(
        self, attempt_id: int, outcome: Outcome, value: float | None, error: str = "", traceback: str = ""
    ) -> None:
        """Settle a trial and report its outcome to Optuna.

        Raises:
            LeaseLostError: another agent holds the trial now, so this outcome does not count.
        """
        settled = self._statement(leases.settle, attempt_id, outcome, value, error, traceback)
        if settled.trial_id is not None:
            self._search.forget(settled.trial_id)
        if not settled.told:
            self._tells.deliver(attempt_id)

    def release(self, *attempt_ids: int, reason: str | None = None) -> None:
        self._statement(leases.release, *attempt_ids, reason=reason)

    def lose(self, attempt_id: int, reason: str, kind: Outcome = Outcome.LOST) -> None:
        """End an attempt whose trainer died; after too many of them its trial fails."""
        self._write(leases.lose, attempt_id, reason, self.spec.max_lost, kind)
        self._tells.deliver(attempt_id)

    def note_data(self, data: str) -> None:
        """Note the line on the data that the agent's template has loaded, once, and warn if another agent's differ."""
        if data and data != self._data:
            self._write(agents.note_version, self.agent_id, DATA, data)
            self._data = data
            warning = versions.other_data(data, self._write(agents.versions_of_others, self.agent_id, DATA))
            if warning:
                log.warning(warning)

    def reap_expired(self) -> None:
        """End attempts of other agents whose leases have expired."""

        def reap(c: Connection) -> None:
            suspects = leases.suspects(c, self._study_id, self.agent_id)
            leases.reap(c, self._lease_monitor.expired(suspects), self.spec.max_lost)

        self._write(reap)

    def refresh(self) -> StudySnapshot:
        """Return the study's state and counts.

        Raises:
            StudyLostError: the study is gone.
        """
        return self._snapshots.read()

    def sweep(self, stale_seconds: float = STALE_SECONDS) -> None:
        """Complete the work of dead agents: their leases, outcomes that Optuna does not know, stray trials."""
        for agent_id, pid, process in self._write(agents.agents_of_host, self._study_id, self.host):
            if pid != os.getpid() and is_dead(process):
                self._write(agents.reap_agent, agent_id, self.spec.max_lost)
        self._tells.deliver_left(stale_seconds)

    def check_held(self, attempt_id: int) -> None:
        """Raise LeaseLostError if another agent has ended the attempt."""
        self._statement(attempts.guard, attempt_id)

    def failures(self, most: int) -> tuple[Counts, list[Failure]]:
        """Return the study's counts and its failures since its state was set to `run`, the last one first."""
        return self._write(
            lambda c: (budget.count(c, self._study_id), budget.failures(c, self._study_id, most))
        )

    def leave(self) -> None:
        """Record that the agent has ended, and release all that it holds."""
        self._write(agents.leave, self.agent_id)

    def _read_paused(self) -> Mapping[int, int]:
        return self._statement(pauses.epochs, self._study_id)

    def _closed(self, attempt_id: int) -> NoReturn:
        """Handle an Optuna trial that is closed already.

        Raises:
            LeaseLostError: this agent was offline: another one has taken the trial over and finished it.
            TrialClosedError: the attempt is still ours, so the trial was closed with plain Optuna.
            StudyLostError: the study is gone.
        """
        self.check_held(attempt_id)
        # Its whole study may be gone.
        self.refresh()
        # The trial fails, because Optuna accepts no more reports of it.
        self.settle(attempt_id, Outcome.LOST, None, CLOSED_OUTSIDE)
        raise TrialClosedError(CLOSED_OUTSIDE)
