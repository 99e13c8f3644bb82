"""Runs of configurations from given seeds, spread over the slots of a pool until all have ended."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence

from hpo import formatting
from hpo.errors import DiskFullError
from hpo.options.hosts import AgentOptions
from hpo.outcomes import Outcome
from hpo.process.signals import SignalHandler
from hpo.retrain.results import SeedResult, judged_report
from hpo.retrain.seed_run import Needs, RetrainFailedError, SeedRun
from hpo.terminal.pace import Pace
from hpo.terminal.progress import Progress, SlotView, View
from hpo.trainer.messages import Continue, EpochRecord, Finished, Start, Started
from hpo.trainer.pool import TrainerPool
from hpo.trainer.supervisor import Supervisor
from hpo.trainer.workload import Workload
from storage.budget import Counts

log = logging.getLogger(__name__)

MAX_LOST = 3
"""Number of lost processes of one seed after which the retrain fails."""


class SeedRunner(Workload[SeedRun]):
    """Final runs, or runs by which a configuration is chosen, on one pool."""

    def __init__(
        self,
        title: str,
        runs: Sequence[SeedRun],
        pool: TrainerPool,
        progress: Progress,
        signals: SignalHandler,
        options: AgentOptions,
        on_trained: Callable[[], None] | None = None,
        needs: Needs | None = None,
    ) -> None:
        """Call `on_trained`, for final runs only, as soon as a run is about to open the test set.

        Runs begin in their order; `needs` may end some early.
        """
        self._title = title
        self._runs = runs
        self._supervisor: Supervisor[SeedRun] = Supervisor(
            pool, signals, hung_seconds=options.hung_seconds, memory_bytes=options.memory_bytes
        )
        self._pool = pool
        self._progress = progress
        self._signals = signals
        self._on_trained = on_trained
        self._final = on_trained is not None
        self._needs = needs or Needs()
        self._began_at = time.monotonic()
        self._pace = Pace()
        self._trained_before = sum(len(run.history) for run in runs)

    def run(self) -> bool:
        """Train all runs; return False if interrupted before the last one had ended.

        Raises:
            RetrainFailedError: a final run failed, or the process of any run was lost too often.
            DiskFullError: no space is left for checkpoints.
        """
        with self._signals.deferred():
            self._supervisor.run(self)
        return not self._open

    @property
    def _open(self) -> list[SeedRun]:
        """Runs that still have to train, or do."""
        return [run for run in self._runs if not run.ended and self._needs.includes(run)]

    @property
    def _waiting(self) -> list[SeedRun]:
        """Open runs without a slot."""
        training = {id(run) for run in self._supervisor.in_slots.values()}
        return [run for run in self._open if id(run) not in training]

    def poll(self) -> None:
        for run in self._runs:
            run.printed.truncate()

    def schedule(self) -> bool:
        waiting = self._waiting
        for slot, run in zip(self._supervisor.free_slots(), waiting, strict=False):
            if run.output is not None:
                run.output.mkdir(parents=True, exist_ok=True)
            start = Start(
                params=dict(run.config.params),
                seed=run.seed,
                epochs=run.config.epochs,
                restarts=run.config.restarts,
                metric=run.config.metric,
                device=self._pool.devices[slot],
                checkpoints=str(run.folder.path),
                log=str(run.log),
                final=self._final,
                output=str(run.output) if run.output is not None else None,
                number=run.config.trial or 0,
                study=run.config.study or "",
                direction="maximize" if run.config.direction == "maximize" else "minimize",
                memory_bytes=self._supervisor.memory_bytes,
            )
            self._supervisor.start(slot, run, start)
        return not waiting and not self._supervisor.in_slots

    def release(self, slot: int, run: SeedRun, reason: str | None = None) -> None:  # noqa: ARG002
        self._supervisor.detach(slot, run)

    def on_started(self, slot: int, run: SeedRun, event: Started) -> None:  # noqa: ARG002
        run.history, run.epoch = list(event.history), event.resumed_from
        if event.resumed_from:
            log.info(f"resumes after epoch {event.resumed_from}", extra=run.context)
        self._notify_trained(run)

    def on_epoch(self, slot: int, run: SeedRun, record: EpochRecord) -> None:
        run.history.append(record)
        run.epoch, run.fraction = record.epoch, 0.0
        self._notify_trained(run)
        self._supervisor.send(slot, run, Continue(record.epoch))

    def on_finished(self, slot: int, run: SeedRun, finished: Finished) -> None:
        self._supervisor.detach(slot, run)
        match finished.outcome:
            case Outcome.COMPLETE:
                if run.config.epochs is not None and run.epoch < run.config.epochs:
                    self._notify_trained(run, ended=True)
                seconds = sum(record.seconds for record in run.history)
                run.result = SeedResult(run.seed, tuple(run.history), finished.results, seconds)
                shown = f"finished {formatting.counted(len(run.history), 'epoch')} {_shown(run, finished)}"
                log.info(shown.rstrip(), extra=run.context)
                self._end_needless()
            case Outcome.PREEMPTED:
                pass
            case Outcome.MISFIT:
                log.warning(
                    f"the checkpoint of epoch {run.epoch} does not fit the objective ({finished.error}): starting again"
                    " from epoch 1",
                    extra=run.context,
                )
                run.folder.delete()
            case Outcome.DISK_FULL:
                raise DiskFullError(finished.error)
            case outcome if outcome.is_infeasible and not self._final:
                self._fail(run, f"{outcome} after epoch {run.epoch}", finished.error)
            case outcome:
                error = RetrainFailedError(
                    f"{run.name} ended as {outcome} after epoch {run.epoch}: {finished.error} (see {run.log})"
                )
                if finished.traceback:
                    error.add_note(finished.traceback)
                raise error

    def on_lost(self, slot: int, run: SeedRun, reason: str, outcome: Outcome) -> None:
        self._supervisor.detach(slot, run)
        run.lost += 1
        if run.lost < MAX_LOST:
            log.warning(f"lost after epoch {run.epoch} ({reason}): resuming", extra=run.context)
        elif outcome is Outcome.OUT_OF_MEMORY and not self._final:
            self._fail(run, f"{outcome} after epoch {run.epoch}", reason)
        else:
            raise RetrainFailedError(
                f"{run.name} was lost {run.lost} times, the last time: {reason} (see {run.log})"
            )

    def _fail(self, run: SeedRun, failure: str, reason: str) -> None:
        run.failure = failure
        log.warning(f"{failure}: {reason}", extra=run.context)
        self._end_needless()

    def _end_needless(self) -> None:
        """End the runs that train although no result depends on them any more; their checkpoints stay."""
        for slot, run in list(self._supervisor.in_slots.items()):
            if not self._needs.includes(run):
                self._supervisor.kill(slot, run)

    def _notify_trained(self, run: SeedRun, *, ended: bool = False) -> None:
        """Notify that a run has trained all its epochs, or has `ended` with fewer.

        An Optuna objective has no test set that this service knows of.
        """
        epochs = run.config.epochs
        if self._on_trained is not None and epochs is not None and (ended or run.epoch >= epochs):
            self._on_trained()

    def show(self) -> None:
        done = sum(run.ended for run in self._runs)
        if self._pool.ready:
            self._pace.begin()
        waiting = self._waiting
        trained = sum(len(run.history) for run in self._runs)
        # A run may end itself early.
        total = trained + sum((run.config.epochs or 0) - len(run.history) for run in self._open)
        slots = []
        for slot, device in enumerate(self._pool.devices):
            run = self._supervisor.in_slots.get(slot)
            if run is None:
                note = "" if self._pool.ready else self._pool.stage or "loading the objective and its data"
                slots.append(SlotView(device=device.name, note=note))
                continue
            last = run.history[-1].metrics if run.history else {}
            value = last.get(run.config.metric, last.get("accuracy", last.get("loss")))
            slots.append(
                SlotView(
                    device=device.name,
                    run=run.name,
                    epoch=run.epoch,
                    epochs=run.config.epochs,
                    fraction=run.fraction,
                    value=value,
                    images_per_second=run.images_per_second,
                    note=run.note,
                )
            )
        counts = Counts(
            budget=done + len(self._open),
            complete=done,
            running=len(self._supervisor.in_slots),
            waiting=len(waiting),
        )
        eta = self._pace.seconds_left(trained - self._trained_before, total - trained)
        self._progress.update(
            View(
                study=self._title,
                metric="training" if self._final else self._runs[0].config.metric,
                unit="run",
                counts=counts,
                slots=slots,
                elapsed_seconds=time.monotonic() - self._began_at,
                eta_seconds=eta if total > trained else None,
                note=self._needs.note,
            )
        )


def _shown(run: SeedRun, finished: Finished) -> str:
    """Return the numbers that a run recorded, or else its value by the study's rule."""
    found = {name: value for name, value in finished.results.items() if isinstance(value, float)}
    if not found and run.history:
        found = (
            {run.config.metric: judged.value} if (judged := judged_report(run.config, run.history)) else {}
        )
    return " ".join(f"{name}={formatting.metric(value)}" for name, value in found.items())
