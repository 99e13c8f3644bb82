"""`hpo retrain`: trains one configuration afresh over several seeds and opens the test set once."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import signal
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import FrameType
from typing import Any

from sqlalchemy import Connection, text

from hpo.agent import AgentTimes
from hpo.checkpoints import CheckpointFolder, study_folder
from hpo.errors import (
    DiskFullError,
    FileNotWritableError,
    HpoError,
    RetrainRunningError,
    UnknownStudyError,
)
from hpo.export import Config, build_config, check_params, read_config
from hpo.launch import data_dir_of
from hpo.messages import Epoch, EpochRecord, Finished, FromTrainer, Go, Load, Start, Started, Tick, Yield
from hpo.pool import Died, TrainerPool
from hpo.progress import Progress, SlotView, View, open_progress
from hpo.provenance import backend, git_commit, hardware, objective_sha256
from hpo.requests import RetrainRequest, check_study_name
from hpo.results import SeedResult, check_folder, summaries, write_results
from hpo.settings import Settings
from hpo.slots import slots_here
from hpo.study import find_study
from objectives import loader
from objectives.base import DataOptions
from storage.budget import Counts
from storage.engine import Database, open_database

FIRST_SEED = 1_000_000
"""Seeds of final runs begin here, far from those of trials: a lucky one must not be used again."""

MAX_LOST = 3
"""Times that the process of one seed may die before the retrain gives up."""


class RetrainFailedError(HpoError):
    """A final run of the configuration failed, so there is no result to trust."""


@dataclass
class _SeedRun:
    """One seed on its way."""

    seed: int
    folder: CheckpointFolder
    output: Path | None
    history: list[EpochRecord] = field(default_factory=list)
    epoch: int = 0
    fraction: float = 0.0
    images_per_second: float | None = None
    lost: int = 0
    began: float = 0.0
    result: SeedResult | None = None


def retrain(request: RetrainRequest, settings: Settings) -> int:
    """Retrain, write the result files and print where they lie; returns the exit code.

    Raises:
        HpoError: no best trial, a broken config file, a run that failed, missing data and the like.
    """
    check_study_name(request.study)
    began = time.monotonic()
    given = read_config(request.config) if request.config is not None else None
    with open_database(settings.storage, settings.home) as database:
        study_id = _study_id(database, request.study, required=given is None)
        config = given or build_config(database, request.study)
        config = replace(config, study=config.study or request.study, epochs=request.epochs or config.epochs)
        resolved = loader.resolve(config.objective)
        folder = settings.results_dir / request.study
        # Before hours of training, not after.
        check_folder(folder)
        seeds = [FIRST_SEED + index for index in range(request.seeds)]
        base = study_folder(settings.checkpoints, request.study) / f"retrain-{_fingerprint(config)}"
        devices = slots_here(request.workers, request.slots, at_most=len(seeds))
        data = data_dir_of(settings, DataOptions(**dict(config.data)))
        log = settings.home / "logs" / request.study / f"retrain-template-{os.getpid()}.log"
        # What was trained, though the file may be edited meanwhile.
        sha256 = objective_sha256(resolved)
        with (
            _alone(base, request.study),
            TrainerPool(Load(config.objective, data, final=True), devices, log) as pool,
        ):
            description = pool.describe()
            if request.config is not None:
                check_params(config.params, description.space, request.config)
            retrain_id = _register(database, study_id, config, seeds)
            progress = open_progress()
            runs = [
                _SeedRun(seed, CheckpointFolder(base / f"seed-{seed}"), base / "output" if i == 0 else None)
                for i, seed in enumerate(seeds)
            ]
            final = _FinalRuns(config, runs, pool, progress, settings.home / "logs" / request.study)
            try:
                finished = final.run()
            finally:
                progress.close()
            if not finished:
                progress.say("interrupted: the same command continues from the last epochs")
                return 130
            results = [run.result for run in runs if run.result is not None]
            about = {
                "seeds": seeds,
                "wall_seconds": round(time.monotonic() - began, 1),
                "slots": [device.name for device in devices],
                "hardware": hardware(),
                "versions": dict(pool.versions),
                "backend": backend(),
                "working_directory_commit": git_commit(),
                **({"objective_sha256": sha256} if sha256 is not None else {}),
            }
            pool.close()
            model = base / "output" / "model.keras"
            metrics = write_results(folder, config, results, about, model)
            _finish(database, retrain_id, metrics)
            for run in runs:
                run.folder.delete()
            CheckpointFolder(base).delete()
    _print_summary(progress, folder, config.metric, results)
    return 0


@contextmanager
def _alone(folder: Path, study: str) -> Iterator[None]:
    """Hold the checkpoints of a retrain: two that wrote there would spoil each other's.

    Raises:
        RetrainRunningError: another process holds them.
        FileNotWritableError: the folder cannot be created.
    """
    descriptor = _lock(folder, study)
    try:
        yield
    finally:
        os.close(descriptor)


def _lock(folder: Path, study: str) -> int:
    path = folder / "lock"
    for _ in range(100):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as exc:
            if isinstance(exc, FileNotFoundError) and folder.parent.is_dir():
                continue  # The other one finished, and deleted the folder just now.
            raise FileNotWritableError(
                f"checkpoints cannot be written to {folder} ({exc.strerror}):"
                " choose another folder with HPO_CHECKPOINTS"
            ) from exc
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            os.close(descriptor)
            raise RetrainRunningError(
                f"another hpo retrain of this configuration of study {study} is running"
                f" (it holds {path}): wait until it ends"
            ) from exc
        except OSError:
            return descriptor  # A file system without locks: as good as it gets.
        try:
            if os.path.samestat(os.fstat(descriptor), path.stat()):
                return descriptor
        except FileNotFoundError:
            pass
        # It was deleted with the folder by the one that held it, which has ended.
        os.close(descriptor)
    raise FileNotWritableError(f"{path} cannot be locked: it is deleted again and again")


class _FinalRuns:
    """The seeds of one retrain, spread over the slots of a pool."""

    def __init__(
        self, config: Config, runs: Sequence[_SeedRun], pool: TrainerPool, progress: Progress, logs: Path
    ) -> None:
        self._config = config
        self._runs = runs
        self._pool = pool
        self._progress = progress
        self._logs = logs
        self._waiting = deque(runs)
        self._in_slot: dict[int, _SeedRun] = {}
        self._signals: list[int] = []
        self._deadline: float | None = None
        self._began = time.monotonic()

    def run(self) -> bool:
        """Train all seeds; False when interrupted before the last had ended."""
        handlers = {n: signal.signal(n, self._handle_signal) for n in (signal.SIGINT, signal.SIGTERM)}
        try:
            while self._waiting or self._in_slot:
                if self._heed_signals():
                    return False
                self._fill()
                for slot, event in self._pool.wait(0.2):
                    if slot in self._in_slot:
                        self._hear(slot, self._in_slot[slot], event)
                self._progress.update(self._view())
            return all(run.result is not None for run in self._runs)
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)

    def _handle_signal(self, number: int, _frame: FrameType | None) -> None:
        self._signals.append(number)

    def _heed_signals(self) -> bool:
        """Whether it is time to leave: at once after a second Ctrl-C, else when epochs have ended."""
        if not self._signals:
            return False
        times = AgentTimes()
        if self._deadline is None:
            gentle = signal.SIGTERM not in self._signals
            grace = times.interrupt_grace_seconds if gentle else times.stop_grace_seconds
            self._deadline = time.monotonic() + grace
            self._waiting.clear()
            for slot in self._in_slot:
                self._pool.send(slot, Yield())
        return not self._in_slot or len(self._signals) > 1 or time.monotonic() > self._deadline

    def _fill(self) -> None:
        if not self._pool.ready or self._deadline is not None:
            return
        for slot in self._pool.free_slots():
            if not self._waiting or slot in self._in_slot:
                continue
            run = self._waiting.popleft()
            run.began = run.began or time.monotonic()
            self._in_slot[slot] = run
            if run.output is not None:
                run.output.mkdir(parents=True, exist_ok=True)
            self._pool.start(
                slot,
                Start(
                    params=dict(self._config.params),
                    seed=run.seed,
                    epochs=self._config.epochs,
                    metric=self._config.metric,
                    device=self._pool.devices[slot],
                    checkpoints=str(run.folder.path),
                    log=str(self._log_of(run)),
                    final=True,
                    output=str(run.output) if run.output is not None else None,
                ),
            )

    def _log_of(self, run: _SeedRun) -> Path:
        return self._logs / f"retrain-seed-{run.seed}.log"

    def _hear(self, slot: int, run: _SeedRun, event: FromTrainer | Died) -> None:
        match event:
            case Started(_, resumed_from, history):
                run.history, run.epoch = list(history), resumed_from
                if resumed_from:
                    self._progress.say(f"seed {run.seed} goes on after epoch {resumed_from}")
            case Tick(epoch, fraction, images_per_second):
                run.epoch, run.fraction, run.images_per_second = epoch - 1, fraction, images_per_second
            case Epoch(record):
                run.history.append(record)
                run.epoch, run.fraction = record.epoch, 0.0
                self._pool.send(slot, Go(record.epoch))
            case Finished():
                del self._in_slot[slot]
                self._finished(run, event)
            case Died(reason):
                del self._in_slot[slot]
                run.lost += 1
                if run.lost >= MAX_LOST:
                    raise RetrainFailedError(
                        f"seed {run.seed} was lost {run.lost} times, the last time because {reason}:"
                        f" see {self._log_of(run)}"
                    )
                self._progress.say(f"seed {run.seed} lost after epoch {run.epoch} ({reason}): it goes on")
                self._waiting.appendleft(run)

    def _finished(self, run: _SeedRun, finished: Finished) -> None:
        match finished.outcome:
            case "complete":
                seconds = sum(record.seconds for record in run.history)
                run.result = SeedResult(run.seed, tuple(run.history), finished.results, seconds)
                shown = " ".join(
                    f"{name}={value:.4f}"
                    for name, value in finished.results.items()
                    if isinstance(value, float)
                )
                self._progress.say(f"seed {run.seed} finished {len(run.history)} epochs {shown}".rstrip())
            case "yielded":
                return
            case "disk":
                raise DiskFullError(finished.error)
            case outcome:
                error = RetrainFailedError(
                    f"seed {run.seed} ended as {outcome} after epoch {run.epoch}: {finished.error}"
                    f" (see {self._log_of(run)})"
                )
                if finished.traceback:
                    error.add_note(finished.traceback)
                raise error

    def _view(self) -> View:
        done = sum(run.result is not None for run in self._runs)
        elapsed = time.monotonic() - self._began
        trained = sum(len(run.history) for run in self._runs)
        total = len(self._runs) * self._config.epochs
        slots = []
        for slot, device in enumerate(self._pool.devices):
            run = self._in_slot.get(slot)
            if run is None:
                note = "" if self._pool.ready else "loading the objective and its data"
                slots.append(SlotView(device.name, None, note=note))
                continue
            last = run.history[-1].metrics if run.history else {}
            value = last.get(self._config.metric, last.get("accuracy", last.get("loss")))
            slots.append(
                SlotView(
                    device.name,
                    run.seed,
                    run.epoch,
                    self._config.epochs,
                    run.fraction,
                    value,
                    run.images_per_second,
                )
            )
        return View(
            f"retrain {self._config.study}",
            "training",
            Counts(len(self._runs), done, 0, 0, len(self._in_slot), len(self._waiting)),
            None,
            slots,
            elapsed,
            elapsed / trained * (total - trained) if trained else None,
        )


def _fingerprint(config: Config) -> str:
    """The same for a retrain that continues an interrupted one, another for any other."""
    parts = [config.objective, dict(config.params), config.epochs, dict(config.data)]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:12]


def _study_id(database: Database, name: str, required: bool) -> int | None:
    try:
        return find_study(database, name).study_id
    except UnknownStudyError:
        if required:
            raise
        return None


def _register(database: Database, study_id: int | None, config: Config, seeds: Sequence[int]) -> int | None:
    """Log the retrain; one of a config file alone belongs to no study, and is not logged."""
    if study_id is None:
        return None

    def write(c: Connection) -> int:
        retrain_id: int = c.execute(
            text(
                "INSERT INTO hpo.retrains (study_id, config, seeds) VALUES"
                " (:s, CAST(:config AS jsonb), CAST(:seeds AS jsonb)) RETURNING retrain_id"
            ),
            {"s": study_id, "config": json.dumps(config.to_json()), "seeds": json.dumps(list(seeds))},
        ).scalar_one()
        return retrain_id

    return database.transaction(write)


def _finish(database: Database, retrain_id: int | None, metrics: dict[str, Any]) -> None:
    if retrain_id is None:
        return
    database.transaction(
        lambda c: c.execute(
            text(
                "UPDATE hpo.retrains SET metrics = CAST(:m AS jsonb), ended_at = clock_timestamp(),"
                " test_opened_at = coalesce(test_opened_at, clock_timestamp()) WHERE retrain_id = :r"
            ),
            {"r": retrain_id, "m": json.dumps(metrics)},
        )
    )


def _print_summary(progress: Progress, folder: Path, metric: str, results: Sequence[SeedResult]) -> None:
    for name, interval in summaries(results, metric).items():
        if not name.startswith("test_"):
            continue
        spread = "" if interval.standard_deviation is None else f" ± {interval.standard_deviation:.4f}"
        bounds = ""
        if interval.interval95 is not None:
            bounds = f", 95 % interval {interval.interval95[0]:.4f} to {interval.interval95[1]:.4f}"
        progress.say(f"{name}: {interval.mean:.4f}{spread} (n = {interval.n} seeds{bounds})")
    progress.say(f"results: {folder}")
