"""The ends of attempts: an outcome is committed, or the trial is given back, and too many failures end the search."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from hpo import formatting
from hpo.agent import failure_policy
from hpo.agent.attempts import AttemptTable
from hpo.agent.cleanup import Cleanup
from hpo.agent.running_attempt import RunningAttempt
from hpo.agent.store.errors import is_of_trial
from hpo.agent.store.trial_store import TrialStore
from hpo.agent.view import StudyView
from hpo.errors import DiskFullError
from hpo.outcomes import Outcome
from hpo.process.shutdown import ExitCode
from hpo.search.open_overrides import without_parameter
from hpo.trainer.ends.failures import one_line, traceback_of
from hpo.trainer.messages import Finished
from hpo.trainer.supervisor import Supervisor
from objectives.runs.figures import first_problem
from storage.attempts import LeaseLostError

log = logging.getLogger(__name__)


class Settlement:
    """Ends the attempts of one agent."""

    def __init__(
        self,
        store: TrialStore,
        supervisor: Supervisor[RunningAttempt],
        attempts: AttemptTable,
        cleanup: Cleanup,
        view: StudyView,
    ) -> None:
        self._store = store
        self._spec = store.spec
        self._supervisor = supervisor
        self._shutdown = supervisor.shutdown
        self._attempts = attempts
        self._cleanup = cleanup
        self._view = view
        self._narrowing_checked = False
        self.changed = False
        """Whether an attempt has ended since the agent last read the study's counts."""

    @contextmanager
    def fencing(self, slot: int, run: RunningAttempt) -> Iterator[None]:
        """Drop the attempt if another agent has ended it; fail its trial if its event cannot be handled."""
        try:
            with self._dropping_lost(slot, run):
                yield
        # Values of one trial may end this trial only: other agents would end at the same one in turn.
        except Exception as exc:
            if not is_of_trial(exc):
                raise
            error = f"an event of the trial cannot be handled: {one_line(exc)}"
            self.end(slot, run, Finished(Outcome.BUG, error, traceback_of(exc)))

    @contextmanager
    def _dropping_lost(self, slot: int, run: RunningAttempt) -> Iterator[None]:
        try:
            yield
        except LeaseLostError as exc:
            self._attempts.drop_lost(slot, run, str(exc))

    def end(self, slot: int, run: RunningAttempt, finished: Finished) -> None:
        """Kill the trainer of an attempt, and settle its trial unless another agent has taken it."""
        self._supervisor.kill(slot, run)
        with self._dropping_lost(slot, run):
            self._settle(slot, run, finished)

    def finish(self, slot: int, run: RunningAttempt, finished: Finished) -> None:
        """Handle the end that a trainer has reported."""
        if finished.value is not None:
            run.value = finished.value
        match finished.outcome:
            case Outcome.PREEMPTED:
                self._attempts.release(slot, run)
            case Outcome.MISFIT:
                self._attempts.restart(slot, run, finished.error)
            case Outcome.DISK_FULL:
                # An agent that finished the trial in our place removes its folder: then our disk is not full.
                self._store.check_held(run.attempt_id)
                self._attempts.release(slot, run)
                self._shutdown.stop(DiskFullError(finished.error))
            case Outcome.COMPLETE if run.value is None or not math.isfinite(run.value):
                # The last epoch may have been reported by an earlier attempt, on another machine.
                error = f"{self._spec.metric} is not finite"
                self._settle(slot, run, replace(finished, outcome=Outcome.DIVERGED, error=error))
            case Outcome.COMPLETE if error := self._violated(run):
                self._settle(slot, run, replace(finished, outcome=Outcome.INFEASIBLE, error=error))
            case _:
                self._settle(slot, run, finished)

    def _violated(self, run: RunningAttempt) -> str:
        """Return how a trained trial violates a constraint; empty if it does not."""
        if not self._spec.figures:
            return run.violated
        epoch = run.judged.epoch if run.judged is not None else run.epoch
        later = self._store.figures_of_epochs(run.attempt_id, epoch, [*run.figures])
        return run.violated or first_problem(self._spec.bounds, later)

    def finish_killed(self, slot: int, run: RunningAttempt) -> None:
        """Handle the death of a trainer that was asked to end."""
        if run.pruned:
            self._settle(slot, run, Finished(Outcome.PRUNED))
        else:
            self._attempts.release(slot, run)

    def lose(self, slot: int, run: RunningAttempt, reason: str, outcome: Outcome) -> None:
        """Handle the death of a trainer that was not asked to end."""
        self._store.lose(run.attempt_id, reason, outcome)
        self._attempts.drop(slot, run)
        self._attempts.keep_order()
        fields = {"outcome": outcome, "epochs": run.epoch}
        log.warning(
            f"lost after {formatting.counted(run.epoch, 'epoch')}: {reason}",
            extra={**run.context, "fields": fields},
        )
        self.changed = True
        self.stop_if_failing()

    def _settle(self, slot: int, run: RunningAttempt, finished: Finished) -> None:
        outcome = finished.outcome
        value = finished.value
        if value is None and run.judged is not None:
            value = run.judged.value
        if outcome not in (Outcome.COMPLETE, Outcome.PRUNED, Outcome.TIMED_OUT, Outcome.INFEASIBLE):
            value = None
        seconds = time.monotonic() - run.began_at
        if outcome.counts:
            self._attempts.prefetcher.record_trial(seconds)
            self._warn_of_narrowing(run)
        self._store.settle(run.attempt_id, outcome, value, finished.error, finished.traceback)
        self._attempts.drop(slot, run)
        if not (self._spec.can_extend and outcome is Outcome.COMPLETE):
            self._cleanup.checkpoints_of(run.claim.reservation_id).delete()
        self.changed = True
        self._view.trial_ended(run, finished, value, run.earlier_seconds + seconds)
        if outcome is Outcome.BUG:
            self.stop_if_failing()

    def _warn_of_narrowing(self, run: RunningAttempt) -> None:
        """Warn of `--param` that the first trial to end did not use; the launch's end reports on all trials."""
        for warning in (
            without_parameter(self._spec.narrowing, run.params) if not self._narrowing_checked else ()
        ):
            log.warning(warning, extra=run.context)
        self._narrowing_checked = True

    def stop_if_failing(self) -> None:
        """Stop early if the objective itself is broken, or if no trial ever finishes, on whichever host."""
        if self._shutdown.begun:
            return
        reason = failure_policy.reason_to_stop(self._store, self._spec.max_failed)
        if reason is None:
            return
        error, at_once = reason
        if at_once:
            self._shutdown.begin(ExitCode.DONE, 0.0, error)
        else:
            self._shutdown.stop(error)
