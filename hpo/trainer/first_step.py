"""The first step of a run: that it has not taken one for long is reported once, before the run counts as hung."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable

from hpo import formatting
from hpo.trainer.ends.exits import Event
from hpo.trainer.messages import Annotate, Constrain, Epoch, Measure, Started, Suggest, Tick
from hpo.trainer.workload import SupervisedRun

log = logging.getLogger(__name__)

FIRST_STEP_SECONDS = 120.0
"""Time from the start of a run after which it is reported that it has taken no step."""


class FirstStepWatch:
    """Reports runs without a first step, until one of them takes it: then the objective is known to begin late."""

    def __init__(self) -> None:
        self._begins_late = False

    def note(self, run: SupervisedRun, event: Event, now: float) -> None:
        """Note an event of a run; `now` is a time by the supervisor's clock."""
        match event:
            case Started():
                run.first_step_due_at = now + FIRST_STEP_SECONDS
            case Tick(fraction=0.0, images_per_second=0.0):
                run.loading = True
            case Tick() | Epoch() | Suggest() | Annotate() | Constrain() | Measure():
                self._begins_late = self._begins_late or run.late
                run.progressed()

    def restart(self, run: SupervisedRun, now: float) -> None:
        """Leave the time of a pause out."""
        if run.first_step_due_at < math.inf:
            run.first_step_due_at = now + FIRST_STEP_SECONDS

    def report(self, runs: Iterable[SupervisedRun], now: float, hung_seconds: float) -> None:
        """Log once for each run that it has taken no step for long."""
        for run in runs:
            if self._begins_late or run.first_step_due_at > now:
                continue
            run.late, run.first_step_due_at = True, math.inf
            cause = (
                "it is still loading its data"
                if run.loading
                else "it may be compiling its model or waiting for data, or be blocked by a lock or thread that its"
                " process does not have"
            )
            log.warning(
                f"has taken no step in {FIRST_STEP_SECONDS:.0f} s since its start: {cause}; read its output with hpo"
                f" logs, and set --hung-after to end it sooner than after {formatting.duration(hung_seconds)} without"
                " progress",
                extra=run.context,
            )
