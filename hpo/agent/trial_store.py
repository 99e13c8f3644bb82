"""An agent's dealings with the database, each of which survives an outage and can be repeated.

Every decision is first committed to our own tables under the attempt's lease, then told to Optuna,
then noted as told; whoever comes later completes what a dead agent left in between.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, TypeVar

from optuna.exceptions import UpdateFinishedTrialError
from sqlalchemy import Connection, text

from hpo.agent.lease_expiry import LeaseMonitor
from hpo.devices.provenance import training_environment
from hpo.outcomes import Outcome
from hpo.process.identity import host_name, is_dead, process_identity
from hpo.search.optuna_study import Search, find_created, stray_trials
from hpo.search.spec import StudySpec
from hpo.trainer.messages import EpochRecord
from objectives.base import Device, Params
from storage import attempt_logs, budget, leases
from storage.budget import Claim, Counts, Failure, NoWork
from storage.control import read_control
from storage.engine import Database
from storage.leases import LeaseLostError, LeaseTimes
from storage.retry import Retry

T = TypeVar("T")

CLOSED_OUTSIDE = "its Optuna trial was closed by somebody else, outside this service"

STALE_SECONDS = 30.0
"""A decision that Optuna has not heard of for so long was left behind by an agent that died."""


class TrialClosedError(LeaseLostError):
    """Somebody closed the trial with plain Optuna while it was being trained."""


@dataclass(frozen=True)
class StudySnapshot:
    """What an agent must know of its study every second."""

    control: str
    counts: Counts
    best: tuple[int, float, Mapping[str, Any]] | None
    """Number, value and params of the best complete trial."""


class TrialStore:
    """One agent's books of one study."""

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
        self.host = host_name()
        self._database = database
        self._study_id = study_id
        self._spec = spec
        self._retry = retry
        self._best_of: int | None = None
        self._best: tuple[int, float, Mapping[str, Any]] | None = None
        self._overdue = LeaseMonitor(times)
        self.agent_id = self._write(leases.new_agent_id)
        who = (self.host, os.getpid(), process_identity(), len(devices), training_environment(devices[0]))
        ordinal = self._write(
            lambda c: leases.join(c, self.agent_id, study_id, *who, lease_seconds=times.lease_seconds)
        )
        self._search = self._call(lambda: Search(name, spec, database.optuna, ordinal))

    def claim(self, slot: int, device: str) -> Claim | NoWork:
        """A share of the budget to train in a slot, or why there is none."""
        return self._write(
            lambda c: budget.claim(
                c, self._study_id, self.agent_id, self.host, slot, device, self.times.lease_seconds
            )
        )

    def sample(self, claim: Claim) -> tuple[int, int, Params]:
        """The Optuna trial of a claim: its id, number and params, made now if they are not yet.

        Raises:
            LeaseLostError: it took so long that another agent has taken the claim over.
        """
        if claim.trial_id is not None and claim.number is not None:
            taken: int = claim.trial_id
            self._call(lambda: self._search.take_over(taken))
            if claim.params is not None:
                return claim.trial_id, claim.number, dict(claim.params)
            return claim.trial_id, claim.number, self._suggest(claim, claim.trial_id, claim.number)
        maybe_created = not claim.fresh

        def create() -> tuple[int, int]:
            nonlocal maybe_created
            found = self._find_created(claim.token) if maybe_created else None
            maybe_created = True
            if found is not None:
                # By an agent that died, or by us, and the answer was lost.
                self._search.take_over(found[0])
            return found or self._search.create(claim)

        trial_id, number = self._call(create)
        # Before sampling, so that the trial has an owner should this agent die meanwhile.
        self._write(lambda c: leases.attach(c, claim.attempt_id, trial_id, number, None))
        return trial_id, number, self._suggest(claim, trial_id, number)

    def place(self, attempt_id: int, slot: int, device: str) -> None:
        """Note in which slot an attempt is trained that was asked ahead of any.

        Raises:
            LeaseLostError: an agent with an idle slot has taken its trial.
        """
        self._write(lambda c: leases.place(c, attempt_id, slot, device))

    def begin(self, attempt_id: int, pid: int, resumed_from: int) -> None:
        """Note that an attempt's trainer runs."""
        self._write(lambda c: leases.begin(c, attempt_id, pid, resumed_from))

    def record(self, attempt_id: int, trial_id: int, records: Sequence[EpochRecord]) -> dict[int, float]:
        """Keep epochs and report them to Optuna; returns the objective's metric that stands for each."""
        rows = [(record.epoch, record.metrics, record.seconds) for record in records]
        stored = self._write(lambda c: leases.record(c, attempt_id, rows))
        metric = self._spec.metric
        values = {epoch: metrics[metric] for epoch, metrics in sorted(stored.items()) if metric in metrics}
        try:
            for epoch, value in values.items():
                self._call(lambda e=epoch, v=value: self._search.report(trial_id, e, v))  # type: ignore[misc]
        except UpdateFinishedTrialError:
            self._closed(attempt_id)
        return values

    def should_prune(self, attempt_id: int, trial_id: int) -> bool:
        """Whether the study's pruner gives the trial up now.

        Raises:
            LeaseLostError: the trial has been decided meanwhile, and the pruner cannot note anything on it.
        """
        try:
            return self._call(lambda: self._search.should_prune(trial_id))
        except UpdateFinishedTrialError:
            self._closed(attempt_id)

    def settle(
        self, attempt_id: int, outcome: Outcome, value: float | None, error: str = "", traceback: str = ""
    ) -> None:
        """Decide a trial for good and tell Optuna.

        Raises:
            LeaseLostError: another agent holds the trial now, so this outcome does not count.
        """
        self._write(lambda c: leases.settle(c, attempt_id, outcome, value, error, traceback))
        self._tell(self._write(lambda c: budget.untold_of_attempt(c, attempt_id)))

    def release(self, *attempt_ids: int) -> None:
        """Give trials back, to be resumed by any agent."""
        self._write(lambda c: leases.release(c, *attempt_ids))

    def lose(self, attempt_id: int, reason: str, kind: Outcome = Outcome.LOST) -> None:
        """End an attempt whose trainer died; after too many of them its trial is failed."""
        self._write(lambda c: leases.lose(c, attempt_id, reason, self._spec.max_lost, kind))
        self._tell(self._write(lambda c: budget.untold_of_attempt(c, attempt_id)))

    def snapshot(self) -> StudySnapshot:
        """The study's control, books and best trial, after ending leases that have run out."""

        def read(c: Connection) -> tuple[str, Counts]:
            doubtful = leases.doubtful(c, self._study_id, self.agent_id)
            leases.reap(c, self._overdue.judge(doubtful), self._spec.max_lost)
            return read_control(c, self._study_id), budget.count(c, self._study_id)

        control, counts = self._write(read)
        if counts.complete != self._best_of:
            self._best_of, self._best = counts.complete, self._write(self._find_best)
        return StudySnapshot(control, counts, self._best)

    def sweep(self, stale_seconds: float = STALE_SECONDS) -> None:
        """Complete what agents that died left behind: their leases, untold outcomes, stray trials."""
        for agent_id, pid, process in self._write(
            lambda c: leases.agents_of_host(c, self._study_id, self.host)
        ):
            if pid != os.getpid() and is_dead(process):
                self._write(lambda c, a=agent_id: leases.reap_agent(c, a, self._spec.max_lost))  # type: ignore[misc]
        self._tell(self._write(lambda c: budget.untold(c, self._study_id, stale_seconds)))
        for trial_id, number in self._write(lambda c: stray_trials(c, self._study_id)):
            self._finish(trial_id, number, Outcome.LOST, None)

    def left_logs(self, attempts: Sequence[int], seconds: float) -> dict[tuple[int, int], bool]:
        """Of each of these attempts that is the study's, by trial number and id: whether its agent is done with it."""
        return self._write(lambda c: attempt_logs.left_logs(c, self._study_id, attempts, seconds))

    def keep_log(self, attempt_id: int, tail: str, size: int) -> None:
        """Keep the last of what an attempt printed."""
        self._write(lambda c: attempt_logs.keep_log(c, attempt_id, tail, size))

    def open_tokens(self) -> tuple[frozenset[int], frozenset[int]]:
        """The study's undecided trials, and those of them that some agent trains now."""
        return self._write(lambda c: budget.open_tokens(c, self._study_id))

    def while_waiting(self, token: int, act: Callable[[], None]) -> bool:
        """Do something to a trial's files while no agent can begin it; False where one holds it."""

        def locked(c: Connection) -> bool:
            waiting = budget.lock_waiting(c, self._study_id, token)
            if waiting:
                act()
            return waiting

        return self._write(locked)

    def while_held(self, attempt_id: int, act: Callable[[], None]) -> None:
        """Do something to a trial's files while nobody can take it over.

        Raises:
            LeaseLostError: somebody has.
        """

        def guarded(c: Connection) -> None:
            leases.guard(c, attempt_id)
            act()

        self._write(guarded)

    def check_held(self, attempt_id: int) -> None:
        """Raise LeaseLostError if another agent has ended the attempt."""
        self._write(lambda c: leases.guard(c, attempt_id))

    def failures(self, most: int) -> tuple[Counts, list[Failure]]:
        """How the study stands, and what has failed since somebody last had it run: the last of it first."""
        return self._write(
            lambda c: (budget.count(c, self._study_id), budget.failures(c, self._study_id, most))
        )

    def leave(self) -> None:
        """Say goodbye and release whatever is still held."""
        self._write(lambda c: leases.leave(c, self.agent_id))

    def _suggest(self, claim: Claim, trial_id: int, number: int) -> Params:
        try:
            params = self._call(lambda: self._search.suggest(trial_id))
        except UpdateFinishedTrialError:
            self._closed(claim.attempt_id)
        self._write(lambda c: leases.attach(c, claim.attempt_id, trial_id, number, params))
        return params

    def _closed(self, attempt_id: int) -> NoReturn:
        """Optuna's trial is closed already.

        Raises:
            LeaseLostError: we were away: another agent has taken the trial over, and finished it.
            TrialClosedError: the attempt was still ours, so somebody closed the trial with plain Optuna.
        """
        self.check_held(attempt_id)
        # The share is failed, for nothing that it trains can be told any more.
        self._write(lambda c: leases.settle(c, attempt_id, Outcome.LOST, None, CLOSED_OUTSIDE))
        self._tell(self._write(lambda c: budget.untold_of_attempt(c, attempt_id)))
        raise TrialClosedError(CLOSED_OUTSIDE)

    def _tell(self, decided: Sequence[budget.PendingTell]) -> None:
        for trial in decided:
            self._finish(trial.trial_id, trial.number, trial.outcome, trial.value)
            self._write(lambda c, token=trial.token: budget.told(c, token))  # type: ignore[misc]

    def _finish(self, trial_id: int, number: int, outcome: Outcome, value: float | None) -> None:
        try:
            self._call(lambda: self._search.tell(trial_id, number, outcome, value))
        except UpdateFinishedTrialError:
            # Another agent was telling the same at the same moment.
            return

    def _find_created(self, token: int) -> tuple[int, int] | None:
        # Not another retry within the one around it.
        with self._database.engine.begin() as connection:
            return find_created(connection, self._study_id, token)

    def _find_best(self, connection: Connection) -> tuple[int, float, Mapping[str, Any]] | None:
        order = "ASC" if self._spec.direction == "minimize" else "DESC"
        row = connection.execute(
            text(
                "SELECT number, value, params FROM hpo.trials WHERE study_id = :s AND outcome = 'complete'"
                f" AND value IS NOT NULL ORDER BY value {order}, number LIMIT 1"
            ),
            {"s": self._study_id},
        ).one_or_none()
        return (row.number, row.value, row.params) if row is not None else None

    def _write(self, work: Callable[[Connection], T]) -> T:
        return self._database.transaction(work, self._retry)

    def _call(self, call: Callable[[], T]) -> T:
        return self._database.retried(call, self._retry)
