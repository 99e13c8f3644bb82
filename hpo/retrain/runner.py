"""Runs of configurations from given seeds, spread over the slots of a pool until all have ended."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hpo.errors import DiskFullError, HpoError, ObjectiveBrokenError, StorageUnreachableError
from hpo.export.config import Config
from hpo.files.bounded_log import BoundedLog
from hpo.options import AgentOptions
from hpo.outcomes import Outcome
from hpo.process.shutdown import Shutdown
from hpo.process.signals import SignalHandler
from hpo.retrain.results import SeedResult
from hpo.terminal.progress import Progress, SlotView, View
from hpo.trainer.checkpoints import CheckpointFolder
from hpo.trainer.exits import SPAWN_RETRY_SECONDS, Event, SpawnFailed, TrainerExited
from hpo.trainer.messages import Continue, Epoch, EpochRecord, Finished, Preempt, Start, Started, Tick
from hpo.trainer.pool import TrainerPool
from storage.budget import Counts

log = logging.getLogger(__name__)

MAX_LOST = 3
"""Times that the process of one seed may die before the retrain gives up."""


class RetrainFailedError(HpoError):
    """A final run of the configuration failed, so there is no result to trust."""


@dataclass
class SeedRun:
    """One seed of one configuration on its way."""

    config: Config
    seed: int
    folder: CheckpointFolder
    log: Path
    name: str = ""
    """How it is called in what is printed; empty: by its seed."""
    output: Path | None = None
    history: list[EpochRecord] = field(default_factory=list)
    epoch: int = 0
    fraction: float = 0.0
    images_per_second: float | None = None
    lost: int = 0
    printed: BoundedLog = field(init=False)
    result: SeedResult | None = None
    failure: str | None = None
    """Why it ended without a result, where that ends no more than this run."""

    def __post_init__(self) -> None:
        self.name = self.name or f"seed {self.seed}"
        self.printed = BoundedLog(self.log)

    @property
    def ended(self) -> bool:
        """Whether nothing of it is left to train."""
        return self.result is not None or self.failure is not None


class SeedRunner:
    """Several runs on one pool, final ones or ones that a configuration is chosen by."""

    def __init__(
        self,
        title: str,
        runs: Sequence[SeedRun],
        pool: TrainerPool,
        progress: Progress,
        interruption: SignalHandler,
        options: AgentOptions,
        on_trained: Callable[[], None] | None = None,
    ) -> None:
        """`on_trained`, of final runs alone, is called as soon as one is about to open the test set."""
        self._title = title
        self._runs = runs
        self._pool = pool
        self._progress = progress
        self._interruption = interruption
        self._options = options
        self._shutdown = Shutdown()
        self._on_trained = on_trained
        self._final = on_trained is not None
        self._waiting = deque(run for run in runs if not run.ended)
        self._in_slot: dict[int, SeedRun] = {}
        self._heard: dict[int, float] = {}
        """When each slot's trainer last said anything."""
        self._rests_until = 0.0
        self._began = time.monotonic()

    def run(self) -> bool:
        """Train all; False when interrupted before the last had ended.

        Raises:
            RetrainFailedError: a final run failed, or the process of any was lost too often.
            DiskFullError: no space is left for checkpoints.
        """
        with self._interruption.deferred():
            try:
                while (self._waiting or self._in_slot) and not self._heed_signals():
                    self._turn()
            except ObjectiveBrokenError:
                # A signal to all processes of a service ends the template too, and its end is what we saw first.
                if not self._interruption.terminated:
                    raise
            except StorageUnreachableError as exc:
                # Who was told to end does not wait for it: the same command notes what could not be noted.
                if not self._interruption.received:
                    raise
                log.info(str(exc))
        return all(run.ended for run in self._runs)

    def _turn(self) -> None:
        self._fill()
        self._pool.check_loading(self._options.hung_seconds)
        events, listened = self._pool.wait(0.2), time.monotonic()
        for slot, event in events:
            if slot in self._in_slot:
                self._heard[slot] = listened
                self._hear(slot, self._in_slot[slot], event)
        self._end_hung(listened)
        for run in self._runs:
            run.printed.truncate()
        self._progress.update(self._view())

    def _heed_signals(self) -> bool:
        """Whether it is time to leave: at once after a second Ctrl-C, else when epochs have ended."""
        going_on = not self._shutdown.begun
        self._shutdown.apply_signals(self._interruption)
        if going_on and self._shutdown.begun:
            self._waiting.clear()
            for slot in self._in_slot:
                self._pool.send(slot, Preempt())
        return self._shutdown.begun and (self._shutdown.overdue or not self._in_slot)

    def _fill(self) -> None:
        if not self._pool.ready or self._shutdown.begun or time.monotonic() < self._rests_until:
            return
        for slot in self._pool.free_slots():
            if not self._waiting or slot in self._in_slot:
                continue
            run = self._waiting.popleft()
            self._in_slot[slot], self._heard[slot] = run, time.monotonic()
            if run.output is not None:
                run.output.mkdir(parents=True, exist_ok=True)
            self._pool.start(
                slot,
                Start(
                    params=dict(run.config.params),
                    seed=run.seed,
                    epochs=run.config.epochs,
                    metric=run.config.metric,
                    device=self._pool.devices[slot],
                    checkpoints=str(run.folder.path),
                    log=str(run.log),
                    final=self._final,
                    output=str(run.output) if run.output is not None else None,
                    memory_bytes=self._options.memory_bytes,
                ),
            )

    def _hear(self, slot: int, run: SeedRun, event: Event) -> None:
        match event:
            case Started(_, resumed_from, history):
                run.history, run.epoch = list(history), resumed_from
                if resumed_from:
                    log.info(f"{run.name} goes on after epoch {resumed_from}")
                self._notice_trained(run)
            case Tick(epoch, fraction, images_per_second):
                run.epoch, run.fraction, run.images_per_second = epoch - 1, fraction, images_per_second
            case Epoch(record):
                run.history.append(record)
                run.epoch, run.fraction = record.epoch, 0.0
                self._notice_trained(run)
                self._pool.send(slot, Continue(record.epoch))
            case Finished():
                del self._in_slot[slot]
                self._finished(run, event)
            case TrainerExited(reason):
                if event.terminated:
                    self._interruption.await_termination()
                if self._interruption.terminated:
                    # Of the same signal, sent to every process of a service: the same command goes on with it.
                    del self._in_slot[slot]
                    return
                # As of a trial: under a limit a crash is how a backend ends that is refused memory.
                refused = event.crashed and self._options.memory_bytes is not None
                self._lose(slot, run, reason, refused or event.out_of_memory)
            case SpawnFailed(reason):
                self._try_again(slot, run)
                log.info(f"no process was to be had for {run.name} ({reason}): it is tried again")

    def _lose(self, slot: int, run: SeedRun, reason: str, starved: bool = False) -> None:
        run.lost += 1
        if run.lost >= MAX_LOST and starved and not self._final:
            del self._in_slot[slot]
            run.failure = f"oom after epoch {run.epoch}"
            log.info(f"{run.name} {run.failure}: {reason}")
            return
        if run.lost >= MAX_LOST:
            raise RetrainFailedError(
                f"{run.name} was lost {run.lost} times, the last time because {reason}: see {run.log}"
            )
        log.info(f"{run.name} lost after epoch {run.epoch} ({reason}): it goes on")
        del self._in_slot[slot]
        self._waiting.appendleft(run)

    def _try_again(self, slot: int, run: SeedRun) -> None:
        """A little later, for nothing that the run is to blame for."""
        del self._in_slot[slot]
        self._waiting.appendleft(run)
        self._rests_until = time.monotonic() + SPAWN_RETRY_SECONDS

    def _end_hung(self, listened: float) -> None:
        """Kill who had said nothing for too long when we last listened: before, we may have been kept from it."""
        limit = self._options.hung_seconds
        for slot, run in list(self._in_slot.items()):
            if listened - self._heard[slot] <= limit:
                continue
            forked = self._pool.is_forked(slot)
            self._pool.kill(slot)
            if forked:
                self._lose(slot, run, f"there was no progress for {limit:.0f} s")
            else:
                # Its template is stuck.
                self._pool.replace_template()
                self._try_again(slot, run)
                log.info(f"no process was started for {limit:.0f} s: its template is replaced")

    def _notice_trained(self, run: SeedRun) -> None:
        if self._on_trained is not None and run.epoch >= run.config.epochs:
            self._on_trained()

    def _finished(self, run: SeedRun, finished: Finished) -> None:
        match finished.outcome:
            case Outcome.COMPLETE:
                seconds = sum(record.seconds for record in run.history)
                run.result = SeedResult(run.seed, tuple(run.history), finished.results, seconds)
                log.info(f"{run.name} finished {len(run.history)} epochs {_shown(run, finished)}".rstrip())
            case Outcome.PREEMPTED:
                return
            case Outcome.DISK_FULL:
                raise DiskFullError(finished.error)
            case Outcome.DIVERGED | Outcome.OUT_OF_MEMORY if not self._final:
                run.failure = f"{finished.outcome} after epoch {run.epoch}"
                log.info(f"{run.name} {run.failure}: {finished.error}")
            case outcome:
                error = RetrainFailedError(
                    f"{run.name} ended as {outcome} after epoch {run.epoch}: {finished.error} (see {run.log})"
                )
                if finished.traceback:
                    error.add_note(finished.traceback)
                raise error

    def _view(self) -> View:
        done = sum(run.ended for run in self._runs)
        elapsed = time.monotonic() - self._began
        trained = sum(len(run.history) for run in self._runs)
        total = sum(run.config.epochs for run in self._runs)
        slots = []
        for slot, device in enumerate(self._pool.devices):
            run = self._in_slot.get(slot)
            if run is None:
                note = "" if self._pool.ready else "loading the objective and its data"
                slots.append(SlotView(device.name, None, note=note))
                continue
            last = run.history[-1].metrics if run.history else {}
            value = last.get(run.config.metric, last.get("accuracy", last.get("loss")))
            slots.append(
                SlotView(
                    device.name,
                    run.seed,
                    run.epoch,
                    run.config.epochs,
                    run.fraction,
                    value,
                    run.images_per_second,
                )
            )
        return View(
            self._title,
            "training",
            Counts(len(self._runs), done, 0, 0, len(self._in_slot), len(self._waiting)),
            None,
            slots,
            elapsed,
            elapsed / trained * (total - trained) if trained else None,
        )


def _shown(run: SeedRun, finished: Finished) -> str:
    """What a run recorded, or else how its metric ended."""
    found = {name: value for name, value in finished.results.items() if isinstance(value, float)}
    if not found and run.history:
        last = run.history[-1].metrics
        found = {run.config.metric: last[run.config.metric]} if run.config.metric in last else {}
    return " ".join(f"{name}={value:.4f}" for name, value in found.items())
