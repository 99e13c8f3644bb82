"""The rungs of freeze-thaw, at which an agent pauses its trials."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Collection, Sequence

from hpo import formatting
from hpo.agent.attempts import AttemptTable
from hpo.agent.running_attempt import RunningAttempt
from hpo.agent.store.trial_store import TrialStore
from hpo.search.pruners import freeze_thaw_of
from hpo.search.spec import StudySpec
from hpo.terminal.trial_lines import paused_message
from hpo.trainer.messages import Command
from hpo.trainer.supervisor import Supervisor
from objectives.trial_value import Reported, chosen

log = logging.getLogger(__name__)


class Rungs:
    """The rungs of a study for the trials of one agent; there are none without freeze-thaw."""

    def __init__(
        self, store: TrialStore, supervisor: Supervisor[RunningAttempt], attempts: AttemptTable
    ) -> None:
        self._store = store
        self._spec = store.spec
        self._supervisor = supervisor
        self._attempts = attempts
        rule = freeze_thaw_of(self._spec)
        self._epochs = () if rule is None else rule.rungs

    def __contains__(self, epoch: int) -> bool:
        return epoch in self._epochs

    def pause(self, slot: int, run: RunningAttempt, epoch: int) -> bool:
        """Return whether freeze-thaw pauses the trial after an epoch; its trainer then ends."""
        if self._supervisor.shutdown.begun or run.preempted:
            return False
        scores = rung_scores(self._epochs, run.reports, epoch, self._spec)
        if not scores or not self._store.judgement.pauses(run.attempt_id, scores):
            return False
        run.paused = run.preempted = True
        self._supervisor.send(slot, run, Command.PREEMPT)
        self._attempts.prefetcher.record_trial(time.monotonic() - run.began_at)
        value = None if run.judged is None else run.judged.value
        shown = "" if value is None else f" value={formatting.metric(value)}"
        log.info(
            f"paused{shown} epochs={epoch} {formatting.parameters(run.params)}",
            extra={**run.context, "at_terminal": paused_message(value, epoch, run.params)},
        )
        return True


def rung_scores(
    rungs: Collection[int], reports: Sequence[Reported], epoch: int, spec: StudySpec
) -> dict[int, float]:
    """Return the trial's value up to each rung that it has reached after `epoch`, negated if larger is better.

    It is NaN at a rung before which the objective's metric was never reported, or never finite.
    """
    maximize = spec.direction == "maximize"
    scores = {}
    for rung in rungs:
        if rung <= epoch:
            found = chosen([one for one in reports if one.epoch <= rung], spec.value, maximize=maximize)
            value = math.nan if found is None else found.value
            scores[rung] = -value if maximize else value
    return scores
