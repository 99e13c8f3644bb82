"""`hpo retrain`: trains one configuration from several new seeds and opens the test set once."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from hpo import formatting
from hpo.agent.launch import data_dir_of, loading_check
from hpo.agent.outages import training_retry
from hpo.devices.provenance import backend, git_commit, hardware, objective_sha256
from hpo.devices.slots import slots_here
from hpo.export.config import Config
from hpo.files.lock import exclusive_lock
from hpo.options import RetrainRequest, check_study_name
from hpo.process.signals import SignalHandler, interruptible
from hpo.retrain.plan import Plan, make_plan
from hpo.retrain.results import SeedResult, check_folder, summaries, write_results
from hpo.retrain.runner import SeedRun, SeedRunner
from hpo.retrain.selection import Selection, read_selection, select, selection_lines, write_selection
from hpo.retrain.timing import SessionLog
from hpo.search.space import check_params
from hpo.settings import Settings
from hpo.study.objective_file import check_objective_file
from hpo.terminal.log import set_study
from hpo.terminal.progress import Progress, open_progress
from hpo.trainer.checkpoints import CheckpointFolder
from hpo.trainer.messages import Load
from hpo.trainer.pool import TrainerPool
from objectives import loader
from objectives.base import DataOptions
from storage import retrains
from storage.connection.retry import Retry
from storage.engine import Connection, Database, open_database
from storage.studies import StoredStudy

log = logging.getLogger(__name__)

T = TypeVar("T")

FIRST_SEED = 3_000_000_000
"""First seed of final runs: beyond 2³¹, so that no lucky seed of a trial is used again."""


def retrain(request: RetrainRequest, settings: Settings) -> int:
    """Retrain, write the result files and log their folder; return the exit code.

    Raises:
        HpoError: no best trial, a broken config file, a failed run, missing data and the like.
    """
    check_study_name(request.study)
    set_study(request.study)
    with interruptible() as signals, open_database(settings.storage, settings.home) as database:
        plan = make_plan(database, request, settings.results_dir)
        if request.config is None:
            check_objective_file(plan.configs[0].objective, request.study)
        # Before hours of training.
        check_folder(plan.folder)
        settings.make_home()
        progress = open_progress()
        try:
            finished = _Retrain(request, settings, database, plan, progress, signals).run()
        finally:
            progress.close()
    if not finished:
        log.info("interrupted: run the same command to continue from the last epochs")
    return 0 if finished else 130


@dataclass
class _Retrain:
    """One retrain."""

    request: RetrainRequest
    settings: Settings
    database: Database
    plan: Plan
    progress: Progress
    signals: SignalHandler

    def __post_init__(self) -> None:
        study = self.plan.study
        same_name = study is not None and study.name == self.request.study
        folder = study.folder if study is not None and same_name else self.request.study
        self.checkpoints = self.settings.checkpoints / folder
        self.logs = self.settings.home / "logs" / folder

    def run(self) -> bool:
        """Choose among candidates, train, test and write results; return False if interrupted."""
        configs = self.plan.configs
        if len(configs) < self.request.top:
            log.info(
                f"--top {self.request.top}: the study has only"
                f" {formatting.counted(len(configs), 'different complete configuration')}"
            )
        writing = self.checkpoints / f"results-{self.plan.folder.name}"
        with exclusive_lock(writing, self.request.study):
            finished = self._train(configs)
            if finished:
                CheckpointFolder(writing).delete()
        return finished

    def _train(self, configs: Sequence[Config]) -> bool:
        if len(configs) == 1:
            base = self._base(configs[0])
            with exclusive_lock(base, self.request.study):
                return self._final(configs[0], None, SessionLog(base))
        folder = self.checkpoints / f"candidates-{_fingerprint(configs)}"
        with exclusive_lock(folder, self.request.study):
            work = SessionLog(folder)
            selection = self._selection(configs, folder)
            if selection is None or self.signals.received:
                # A signal in the last moments of the candidates ends the retrain before everything is loaded again.
                work.end()
                return False
            with exclusive_lock(self._base(selection.winner), self.request.study):
                if not self._final(selection.winner, selection, work):
                    return False
            CheckpointFolder(folder).delete()
        return True

    def _base(self, config: Config) -> Path:
        """Return the folder of its final runs' checkpoints."""
        return self.checkpoints / f"retrain-{_fingerprint([config])}"

    def _selection(self, configs: Sequence[Config], folder: Path) -> Selection | None:
        kept = read_selection(folder, configs, self.request.seeds)
        if kept is not None:
            log.info(f"trial {kept.winner.trial} was chosen before")
            return kept
        with self._pool(configs[0], len(configs) * self.request.seeds, final=False) as pool:
            selection = select(
                configs,
                self.request.seeds,
                folder,
                self.logs,
                pool,
                self.progress,
                self.signals,
                self.request.agent,
            )
        if selection is not None:
            write_selection(folder, selection)
            shown = selection.to_json()
            config = selection.winner
            limit = config.data.get("limit")
            images = "all" if limit is None else limit
            log.info(
                f"{shown['metric']} on validation images from {self.request.seeds} fresh seeds, {config.epochs} epochs"
                f" of {images} training images:"
            )
            for line in selection_lines(shown):
                log.info(f"  {line}")
        return selection

    def _final(self, config: Config, selection: Selection | None, work: SessionLog) -> bool:
        seeds = [FIRST_SEED + index for index in range(self.request.seeds)]
        base = self._base(config)
        # Before the training: the file may be edited meanwhile, or another commit checked out.
        commit = git_commit()
        sha256 = objective_sha256(loader.resolve(config.objective))
        with self._pool(config, len(seeds), final=True) as pool:
            space = pool.describe(loading_check(self.signals, pool, self.request.agent)).space
            if self.request.config is not None:
                check_params(config.params, space, self.request.config)
            runs = [
                SeedRun(
                    config=config,
                    seed=seed,
                    folder=CheckpointFolder(base / f"seed-{seed}"),
                    log=self.logs / f"retrain-seed-{seed}.log",
                    output=base / "output" if index == 0 else None,
                )
                for index, seed in enumerate(seeds)
            ]

            def truncate_logs() -> None:
                pool.truncate_log()
                for run in runs:
                    run.printed.truncate()

            retry = training_retry(self.signals.event, truncate_logs)
            record = _RetrainRecord(self.database, retry, self.plan.study, config, seeds, base)
            finished = SeedRunner(
                f"retrain {config.study}",
                runs,
                pool,
                self.progress,
                self.signals,
                self.request.agent,
                record.open_test_set,
            ).run()
            total = work.end()
            if not finished:
                return False
            about = {
                "source": self.plan.source,
                "seeds": seeds,
                "wall_seconds": round(total.seconds, 1),
                "sessions": total.sessions,
                "slots": [device.name for device in pool.devices],
                "hardware": hardware(),
                "versions": dict(pool.versions),
                "backend": backend(),
                "working_directory_commit": commit,
                **({"objective_sha256": sha256} if sha256 is not None else {}),
                **({"selection": selection.to_json()} if selection is not None else {}),
                **record.to_json(),
            }
            pool.close()
            results = [run.result for run in runs if run.result is not None]
            model = base / "output" / "model.keras"
            metrics = write_results(self.plan.folder, config, results, about, model)
            record.finish(metrics)
            CheckpointFolder(base).delete()
        self._print_summary(config.metric, results, about)
        return True

    def _pool(self, config: Config, runs: int, *, final: bool) -> TrainerPool:
        devices = slots_here(self.request.workers, self.request.agent.slots, at_most=runs)
        data = data_dir_of(self.settings, DataOptions(**dict(config.data)))
        log = self.logs / f"retrain-template-{os.getpid()}.log"
        return TrainerPool(Load(config.objective, data, final=final), devices, log)

    def _print_summary(self, metric: str, results: Sequence[SeedResult], about: Mapping[str, Any]) -> None:
        for name, interval in summaries(results, metric).items():
            if name.startswith("test_"):
                log.info(f"{name}: {interval.describe()}", extra={"is_result": True})
        study = self.plan.study
        if study is not None:
            opened = formatting.times(about["test_openings"])
            log.info(f"test set: opened {opened} by retrains of study {study.name}")
        log.info(f"results: {self.plan.folder}")
        if study is not None:
            log.info(f"next: hpo report --study {study.name}")


class _RetrainRecord:
    """The database's record of one retrain; a retrain of a config file alone has no study and no record."""

    def __init__(
        self,
        database: Database,
        retry: Retry,
        study: StoredStudy | None,
        config: Config,
        seeds: Sequence[int],
        base: Path,
    ) -> None:
        self._database = database
        self._retry = retry
        self._study_id = study_id = study.study_id if study is not None else None
        self._opened = False
        self._retrain_id: int | None = None
        if study_id is None:
            return
        note = base / "retrain.json"
        earlier: int | None = None
        with suppress(OSError, ValueError):
            earlier = int(json.loads(note.read_text()))
        new_id = self._write(retrains.new_id)
        self._retrain_id = self._write(
            lambda c: retrains.begin(c, new_id, study_id, config.to_json(), seeds, earlier)
        )
        # A resumed retrain has the same record, and opens the test set once.
        note.write_text(json.dumps(self._retrain_id))

    def open_test_set(self) -> None:
        """Record that a final run is about to open the test set."""
        retrain_id = self._retrain_id
        if retrain_id is not None and not self._opened:
            self._write(lambda c: retrains.open_test_set(c, retrain_id))
            self._opened = True

    def to_json(self) -> dict[str, Any]:
        """Return the number and times of the study's test set openings, this retrain's included."""
        study_id = self._study_id
        if study_id is None:
            return {"test_openings": None}
        times = self._write(lambda c: retrains.openings(c, study_id))
        return {"test_openings": len(times), "test_opened_at": [time.isoformat() for time in times]}

    def finish(self, metrics: Mapping[str, Any]) -> None:
        """Store the metrics."""
        retrain_id = self._retrain_id
        if retrain_id is not None:
            self._write(lambda c: retrains.finish(c, retrain_id, metrics))

    def _write(self, work: Callable[[Connection], T]) -> T:
        return self._database.transaction(work, self._retry)


def _fingerprint(configs: Sequence[Config]) -> str:
    """Return a hash that a resumed retrain shares with the interrupted one, and no other retrain."""
    parts = [
        part
        for config in configs
        for part in (config.objective, dict(config.params), config.epochs, dict(config.data))
    ]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:12]
