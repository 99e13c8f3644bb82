"""`hpo retrain`: trains one configuration afresh over several seeds and opens the test set once."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from hpo import numbers
from hpo.candidates import Selection, keep_selection, read_selection, select, selection_lines
from hpo.checkpoints import CheckpointFolder, study_folder
from hpo.errors import UnknownStudyError
from hpo.export import Config, best_configs, build_config, check_params, read_config
from hpo.folder_lock import alone
from hpo.launch import data_dir_of
from hpo.messages import Load
from hpo.pool import TrainerPool
from hpo.progress import Progress, open_progress
from hpo.provenance import backend, git_commit, hardware, objective_sha256
from hpo.requests import RetrainRequest, check_study_name
from hpo.results import SeedResult, check_folder, summaries, write_results
from hpo.seed_runs import SeedRun, SeedRuns
from hpo.settings import Settings
from hpo.slots import slots_here
from hpo.study import find_study
from objectives import loader
from objectives.base import DataOptions
from storage import retrains
from storage.engine import Database, open_database

FIRST_SEED = 3_000_000_000
"""Seeds of final runs begin here, beyond 2³¹, below which all trials' are: a lucky one must not be used again."""


def retrain(request: RetrainRequest, settings: Settings) -> int:
    """Retrain, write the result files and print where they lie; returns the exit code.

    Raises:
        HpoError: no best trial, a broken config file, a run that failed, missing data and the like.
    """
    check_study_name(request.study)
    with open_database(settings.storage, settings.home) as database:
        study_id, configs = _configurations(database, request)
        # Before hours of training, not after.
        check_folder(settings.results_dir / request.study)
        progress = open_progress()
        try:
            finished = _Retrain(request, settings, database, study_id, progress).run(configs)
        finally:
            progress.close()
    if not finished:
        progress.say("interrupted: the same command continues from the last epochs")
    return 0 if finished else 130


@dataclass
class _Retrain:
    """One retrain on its way."""

    request: RetrainRequest
    settings: Settings
    database: Database
    study_id: int | None
    progress: Progress

    def __post_init__(self) -> None:
        self.began = time.monotonic()
        self.folder = self.settings.results_dir / self.request.study
        self.checkpoints = study_folder(self.settings.checkpoints, self.request.study)
        self.logs = self.settings.home / "logs" / self.request.study

    def run(self, configs: Sequence[Config]) -> bool:
        """Choose where there is a choice, train, test, write; False when interrupted."""
        if len(configs) < self.request.top:
            self.progress.say(
                f"--top {self.request.top}: there are only {len(configs)} different complete configurations"
            )
        if len(configs) == 1:
            return self._final(configs[0], None)
        folder = self.checkpoints / f"candidates-{_fingerprint(configs)}"
        with alone(folder, self.request.study):
            selection = self._selection(configs, folder)
            if selection is None or not self._final(selection.winner, selection):
                return False
            CheckpointFolder(folder).delete()
        return True

    def _selection(self, configs: Sequence[Config], folder: Path) -> Selection | None:
        kept = read_selection(folder, configs, self.request.seeds)
        if kept is not None:
            self.progress.say(f"trial {kept.winner.trial} was chosen before")
            return kept
        with self._pool(configs[0], len(configs) * self.request.seeds, final=False) as pool:
            selection = select(configs, self.request.seeds, folder, self.logs, pool, self.progress)
        if selection is not None:
            keep_selection(folder, selection)
            shown = selection.to_json()
            config = selection.winner
            limit = config.data.get("limit")
            images = "all" if limit is None else limit
            self.progress.say(
                f"{shown['metric']} on validation images from {self.request.seeds} fresh seeds, {config.epochs} epochs"
                f" of {images} training images:"
            )
            for line in selection_lines(shown):
                self.progress.say(f"  {line}")
        return selection

    def _final(self, config: Config, selection: Selection | None) -> bool:
        seeds = [FIRST_SEED + index for index in range(self.request.seeds)]
        base = self.checkpoints / f"retrain-{_fingerprint([config])}"
        # What was trained, though the file may be edited meanwhile.
        sha256 = objective_sha256(loader.resolve(config.objective))
        with alone(base, self.request.study), self._pool(config, len(seeds), final=True) as pool:
            space = pool.describe().space
            if self.request.config is not None:
                check_params(config.params, space, self.request.config)
            log = _TestLog(self.database, self.study_id, config, seeds, base)
            runs = [
                SeedRun(
                    config,
                    seed,
                    CheckpointFolder(base / f"seed-{seed}"),
                    self.logs / f"retrain-seed-{seed}.log",
                    output=base / "output" if index == 0 else None,
                )
                for index, seed in enumerate(seeds)
            ]
            if not SeedRuns(f"retrain {config.study}", runs, pool, self.progress, log.opened).run():
                return False
            about = {
                "seeds": seeds,
                "wall_seconds": round(time.monotonic() - self.began, 1),
                "slots": [device.name for device in pool.devices],
                "hardware": hardware(),
                "versions": dict(pool.versions),
                "backend": backend(),
                "working_directory_commit": git_commit(),
                **({"objective_sha256": sha256} if sha256 is not None else {}),
                **({"selection": selection.to_json()} if selection is not None else {}),
                **log.to_json(),
            }
            pool.close()
            results = [run.result for run in runs if run.result is not None]
            metrics = write_results(self.folder, config, results, about, base / "output" / "model.keras")
            log.finish(metrics)
            CheckpointFolder(base).delete()
        self._print_summary(config.metric, results, about)
        return True

    def _pool(self, config: Config, runs: int, *, final: bool) -> TrainerPool:
        devices = slots_here(self.request.workers, self.request.slots, at_most=runs)
        data = data_dir_of(self.settings, DataOptions(**dict(config.data)))
        log = self.logs / f"retrain-template-{os.getpid()}.log"
        return TrainerPool(Load(config.objective, data, final=final), devices, log)

    def _print_summary(self, metric: str, results: Sequence[SeedResult], about: Mapping[str, Any]) -> None:
        for name, interval in summaries(results, metric).items():
            if not name.startswith("test_"):
                continue
            spread = "" if interval.standard_deviation is None else f" ± {interval.standard_deviation:.4f}"
            bounds = ""
            if interval.interval95 is not None:
                bounds = f", 95 % interval {interval.interval95[0]:.4f} to {interval.interval95[1]:.4f}"
            self.progress.say(f"{name}: {interval.mean:.4f}{spread} (n = {interval.n} seeds{bounds})")
        if about["test_openings"] is not None:
            self.progress.say(f"test set: opened {numbers.times(about['test_openings'])} for this study")
        self.progress.say(f"results: {self.folder}")
        if self.study_id is not None:
            self.progress.say(f"next: hpo report --study {self.request.study}")


class _TestLog:
    """What the database is told of one retrain; one of a config file alone belongs to no study, and is not logged."""

    def __init__(
        self, database: Database, study_id: int | None, config: Config, seeds: Sequence[int], base: Path
    ) -> None:
        self._database = database
        self._study_id = study_id
        self._opened = False
        self._retrain_id: int | None = None
        if study_id is None:
            return
        note = base / "retrain.json"
        earlier: int | None = None
        with suppress(OSError, ValueError):
            earlier = int(json.loads(note.read_text()))
        self._retrain_id = database.transaction(
            lambda c: retrains.begin(c, study_id, config.to_json(), seeds, earlier)
        )
        # An interrupted retrain that goes on is the same one, and opens the test set once.
        note.write_text(json.dumps(self._retrain_id))

    def opened(self) -> None:
        """A final run is about to look at the test set."""
        retrain_id = self._retrain_id
        if retrain_id is not None and not self._opened:
            self._database.transaction(lambda c: retrains.open_test_set(c, retrain_id))
            self._opened = True

    def to_json(self) -> dict[str, Any]:
        """How often retrains of this study have opened the test set, this one included, and when."""
        study_id = self._study_id
        if study_id is None:
            return {"test_openings": None}
        times: list[datetime] = self._database.transaction(lambda c: retrains.openings(c, study_id))
        return {"test_openings": len(times), "test_opened_at": [time.isoformat() for time in times]}

    def finish(self, metrics: Mapping[str, Any]) -> None:
        """Keep what it showed."""
        retrain_id = self._retrain_id
        if retrain_id is not None:
            self._database.transaction(lambda c: retrains.finish(c, retrain_id, metrics))


def _configurations(database: Database, request: RetrainRequest) -> tuple[int | None, list[Config]]:
    """The study's id, None where there is no such study, and the candidates, best first."""
    given = read_config(request.config) if request.config is not None else None
    study_id: int | None = None
    try:
        study_id = find_study(database, request.study).study_id
    except UnknownStudyError:
        if given is None:
            raise
        study_id = _origin(database, given)
    if given is not None:
        configs = [given]
    elif request.trial is not None:
        configs = [build_config(database, request.study, request.trial)]
    else:
        configs = best_configs(database, request.study, request.top)
    return study_id, [
        replace(
            config,
            study=config.study or request.study,
            epochs=request.epochs or config.epochs,
            data=dict(config.data) | _limit(request),
        )
        for config in configs
    ]


def _origin(database: Database, config: Config) -> int | None:
    """The study that an exported configuration is a trial of, if it is in this database: it must not miss that its
    test set is opened, under whatever name that is done."""
    if config.study is None:
        return None
    try:
        study = find_study(database, config.study)
    except UnknownStudyError:
        return None
    return study.study_id if study.objective == config.objective else None


def _limit(request: RetrainRequest) -> dict[str, int | None]:
    if request.limit is None:
        return {}
    return {"limit": None if request.limit == "all" else request.limit}


def _fingerprint(configs: Sequence[Config]) -> str:
    """The same for a retrain that continues an interrupted one, another for any other."""
    parts = [
        part
        for config in configs
        for part in (config.objective, dict(config.params), config.epochs, dict(config.data))
    ]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:12]
