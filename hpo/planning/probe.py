"""The probe: the default configuration trains in all slots at once for a few epochs, as trials of the search will."""

from __future__ import annotations

import logging
import shutil
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

from optuna.distributions import json_to_distribution
from optuna.samplers import RandomSampler

from hpo import formatting
from hpo.errors import HpoError, ObjectiveFailedError
from hpo.files.bounded_log import BoundedLog
from hpo.options.hosts import AgentOptions
from hpo.outcomes import Outcome
from hpo.planning.memory import MemoryWatch
from hpo.planning.probe_run import Measurement, ProbeRun
from hpo.process.signals import SignalHandler
from hpo.search.open_overrides import narrowed
from hpo.search.spec import StudySpec
from hpo.trainer.messages import (
    Command,
    Continue,
    EpochRecord,
    Finished,
    Start,
    Started,
    Suggest,
    Suggested,
)
from hpo.trainer.pool import TrainerPool
from hpo.trainer.supervisor import Supervisor
from hpo.trainer.workload import Workload
from objectives.base import Params
from objectives.spaces.choices import contains

log = logging.getLogger(__name__)

LONG_START = 0.05
"""Part of the time of a trial's epochs from which on its start is measured twice."""


class ProbeError(HpoError):
    """The default configuration could not be trained for long enough to estimate its cost."""


class Probe(Workload[ProbeRun]):
    """The default configuration in all slots of a pool."""

    def __init__(
        self,
        spec: StudySpec,
        params: Params,
        study: str,
        pool: TrainerPool,
        signals: SignalHandler,
        options: AgentOptions,
        slots: int,
        folders: tuple[Path, Path],
        seconds: float,
    ) -> None:
        """Train in so many slots for `seconds` at most; `folders` are those of the checkpoints and of all logs."""
        self._spec, self._params, self._study = spec, dict(params), study
        self._pool, self._signals, self._seconds = pool, signals, seconds
        self._supervisor: Supervisor[ProbeRun] = Supervisor(
            pool, signals, hung_seconds=options.hung_seconds, memory_bytes=options.memory_bytes
        )
        self._checkpoints, self._logs = folders
        self._runs = self._made(slots, "first")
        self._again: list[ProbeRun] = []
        """Further runs, because the first trainers of a template start more slowly than later ones."""
        self._refused: ProbeRun | None = None
        """The run whose log an error names."""
        self._watch = MemoryWatch()
        self._sampler = RandomSampler(seed=0)
        self._until: float | None = None

    def run(self) -> Measurement:
        """Train and return the measurement; a signal ends it at once, because there is nothing to keep.

        Raises:
            ProbeError: the configuration failed, or no epoch has ended in time.
            ObjectiveFailedError: the objective has a bug.
        """
        try:
            self._supervisor.run(self)
            return self._measurement()
        finally:
            self._supervisor.kill_all()
            shutil.rmtree(self._checkpoints, ignore_errors=True)
            for run in (*self._runs, *self._again):
                if run is not self._refused:
                    run.printed.path.unlink(missing_ok=True)

    def _made(self, slots: int, name: str) -> list[ProbeRun]:
        folder = self._checkpoints
        return [
            ProbeRun(
                slot=slot,
                epochs=self._spec.epochs,
                folder=folder / f"{name}-{slot}",
                printed=BoundedLog(self._logs / f"{folder.name}-{name}-{slot}.log"),
            )
            for slot in range(slots)
        ]

    # The workload.

    def poll(self) -> None:
        self._signals.check()
        for run in self._supervisor.in_slots.values():
            run.printed.truncate()
        self._watch.sample([run.pid for run in self._supervisor.in_slots.values() if run.pid is not None])

    def schedule(self) -> bool:
        now = time.monotonic()
        for slot in self._supervisor.free_slots():
            if self._until is None:
                self._until = now + self._seconds
                shown = formatting.parameters(self._params) or "its parameters are not known before it runs"
                log.info(
                    f"the default configuration trains in {formatting.counted(len(self._runs), 'slot')} for up to"
                    f" {formatting.duration(self._seconds)}: {shown}"
                )
            run = next(
                (run for run in (*self._runs, *self._again) if run.slot == slot and not run.began_at), None
            )
            if run is not None:
                run.began_at = now
                self._supervisor.start(slot, run, self._start(run))
        if self._until is not None and now >= self._until:
            return True
        if not all(run.enough for run in self._runs):
            return False
        if not self._again and self._is_start_long(now):
            self._start_again()
        return all(run.has_started for run in self._again)

    def _is_start_long(self, now: float) -> bool:
        """Whether the start is a large part of a trial, and little of the probe's time is spent."""
        times = [found for run in self._runs if (found := self._times(run)) is not None]
        assert self._until is not None
        if not times or self._until - now < 0.75 * self._seconds:
            return False
        start, epoch = map(max, zip(*times, strict=True))
        return self._spec.epochs is None or start > LONG_START * self._spec.epochs * epoch

    def _start_again(self) -> None:
        self._again = self._made(len(self._runs), "again")
        for slot, run in self._supervisor.in_slots.items():
            # Not killed: at its end, a trainer reports which modules the template may import for the next ones.
            run.preempted = True
            self._supervisor.send(slot, run, Command.PREEMPT)

    def _start(self, run: ProbeRun) -> Start:
        spec = self._spec
        return Start(
            params=dict(self._params),
            seed=spec.seed + run.slot,
            epochs=spec.epochs,
            metric=spec.metric,
            device=self._pool.devices[run.slot],
            checkpoints=str(run.folder),
            log=str(run.printed.path),
            number=run.slot,
            study=self._study,
            direction=spec.direction,
            memory_bytes=self._supervisor.memory_bytes,
            code=spec.code,
            figures=spec.figures,
            constraints=spec.bounds,
        )

    def on_started(self, slot: int, run: ProbeRun, event: Started) -> None:  # noqa: ARG002 - nothing to resume
        run.pid = event.pid

    def on_epoch(self, slot: int, run: ProbeRun, record: EpochRecord) -> None:
        if not run.epochs_at:
            run.first_seconds = record.seconds
        run.epochs_at.append(time.monotonic())
        run.epoch, run.fraction = record.epoch, 0.0
        self._supervisor.send(slot, run, Continue(record.epoch))

    def on_suggest(self, slot: int, run: ProbeRun, event: Suggest) -> Suggested:  # noqa: ARG002
        """Answer with the default configuration, and where it has no value with a random one, the same in all slots."""
        distribution = narrowed(event.name, json_to_distribution(event.distribution), self._spec.narrowing)
        if event.name not in self._params or not contains(distribution, self._params[event.name]):
            # Its random numbers need neither a study nor a trial.
            value = self._sampler.sample_independent(None, None, event.name, distribution)  # type: ignore[arg-type]
            self._params[event.name] = value
        return Suggested(event.name, self._params[event.name])

    def on_finished(self, slot: int, run: ProbeRun, finished: Finished) -> None:
        self._supervisor.detach(slot, run)
        match finished.outcome:
            case Outcome.COMPLETE | Outcome.PRUNED:
                run.ended_at = time.monotonic()
            case Outcome.PREEMPTED:
                pass
            case Outcome.BUG:
                raise ObjectiveFailedError(
                    f"the default configuration has failed with {finished.error}: fix the objective, or plan with"
                    " another one (--param)",
                    finished.traceback,
                )
            case outcome:
                self._refuse(run, outcome, finished.error)

    def on_lost(self, slot: int, run: ProbeRun, reason: str, outcome: Outcome) -> None:
        self._supervisor.detach(slot, run)
        self._refuse(run, outcome, reason)

    def _refuse(self, run: ProbeRun, outcome: Outcome, reason: str) -> None:
        self._refused = run
        remedy = "plan with another one (--param)"
        if outcome is Outcome.OUT_OF_MEMORY:
            remedy = f"use fewer --workers or a larger --memory-per-worker, or {remedy}"
        raise ProbeError(
            f"the default configuration ended as {outcome} after {formatting.counted(run.epoch, 'epoch')}, with"
            f" {formatting.counted(len(self._runs), 'slot')} busy ({reason}; see {run.printed.path}): {remedy}"
        )

    def release(self, slot: int, run: ProbeRun, reason: str | None = None) -> None:  # noqa: ARG002
        self._supervisor.detach(slot, run)
        run.began_at = 0.0

    # The measurement.

    def _measurement(self) -> Measurement:
        timed, again = (
            [times for run in runs if (times := self._times(run)) is not None]
            for runs in (self._runs, self._again)
        )
        whole = _whole(self._again) or _whole(self._runs)
        if self._spec.epochs is None and not whole:
            raise ProbeError(
                f"no trial has ended after {formatting.duration(self._seconds)}, and only the objective's own code"
                " knows how long it trains: set a longer --probe-time"
            )
        if not timed:
            raise ProbeError(
                f"no epoch has ended after {formatting.duration(self._seconds)}, and the objective has not reported its"
                " progress (run.tick): set a longer --probe-time"
            )
        return Measurement(
            params=self._params,
            start_seconds=statistics.median(start for start, _ in again or timed),
            epoch_seconds=statistics.median(epoch for _, epoch in timed),
            measured_epochs=sum(len(run.intervals) or len(run.epochs_at) for run in self._runs),
            trial_seconds=statistics.median(whole) if whole else None,
            ended_after=min((run.epoch for run in self._runs if run.ended_at is not None), default=None),
            memory=self._watch.highest,
            checkpoint_bytes=max(_size(run.folder) for run in self._runs),
        )

    def _times(self, run: ProbeRun) -> tuple[float, float] | None:
        """Return the time to start and that of an epoch; None if neither an epoch nor a part of one is known."""
        if run.epochs_at:
            intervals = run.intervals or self._runs[run.slot].intervals
            epoch = statistics.median(intervals) if intervals else run.first_seconds
            return max(run.epochs_at[0] - run.began_at - epoch, 0.0), epoch
        if run.ended_at is not None:
            return 0.0, run.ended_at - run.began_at
        if len(run.ticks) < 2 or run.ticks[0][1] >= run.ticks[-1][1]:
            return None
        (first_at, first), (last_at, last) = run.ticks[0], run.ticks[-1]
        epoch = (last_at - first_at) / (last - first)
        return max(first_at - run.began_at - first * epoch, 0.0), epoch


def _whole(runs: Sequence[ProbeRun]) -> list[float]:
    """Return the times of the trials that ended."""
    return [run.ended_at - run.began_at for run in runs if run.ended_at is not None]


def _size(folder: Path) -> int:
    """Return the bytes of a run's checkpoints."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
