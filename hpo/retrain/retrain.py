"""`hpo retrain`: trains one configuration from several new seeds and opens the test set once."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from hpo import formatting
from hpo.agent.image_data import images_in_use
from hpo.agent.lanes.choice import LaneChoice
from hpo.agent.launch import loading_check
from hpo.agent.loads import host_data
from hpo.agent.outages import open_for_training, training_retry
from hpo.devices.backends import choose_backend
from hpo.devices.provenance import backend, git_commit, hardware, objective_sha256
from hpo.devices.slots import slots_here
from hpo.errors import ObjectiveBrokenError
from hpo.export.config import Config
from hpo.files.lock import exclusive_lock
from hpo.options.retrain_request import RetrainRequest
from hpo.options.study_name import check_study_name
from hpo.process.signals import SignalHandler, interruptible
from hpo.retrain.folders import RunFolders
from hpo.retrain.messages import report_epochs, report_other_code, report_results, report_selection
from hpo.retrain.plan import Plan, check_declarations, check_file, codes_of, make_plan, with_images
from hpo.retrain.record import RetrainRecord
from hpo.retrain.results import check_folder, write_results
from hpo.retrain.runner import SeedRunner
from hpo.retrain.seed_run import SeedRun
from hpo.retrain.selection import Selection, read_selection, select, write_selection
from hpo.retrain.selection_text import named
from hpo.retrain.timing import SessionLog
from hpo.retrain.tracking import log_retrain
from hpo.settings import Settings
from hpo.study.definition.objective_file import check_objective_file
from hpo.study.folders import move_former
from hpo.terminal.log import set_study
from hpo.terminal.progress import Progress, open_progress
from hpo.trackers.target import parse_targets
from hpo.trainer.checkpointing.checkpoints import CheckpointFolder
from hpo.trainer.lanes.refusal import check_lanes
from hpo.trainer.pool import TrainerPool
from hpo.trainer.template.messages import Load
from objectives import loader
from objectives.base import DataOptions
from objectives.description import Description
from objectives.spaces.space import space_of
from storage.engine import Database

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
    parse_targets(request.agent.log_to)
    with interruptible() as signals, open_for_training(settings) as database:
        plan = make_plan(database, request, settings.results_dir)
        stored = plan.study.spec_json.get("backend", "") if plan.study is not None else ""
        choose_backend(request.agent.backend, stored or plan.configs[0].backend or "", request.study)
        if request.config is None:
            study = f"--study {request.study}"
            named = f"hpo export {study} --output best.yaml, then hpo retrain {study} --config best.yaml"
            check_objective_file(plan.configs[0].objective, request.study, deliberately=named)
        # Before hours of training.
        check_folder(plan.folder)
        settings.make_home()
        if plan.study is not None:
            move_former(database, plan.study, (settings.checkpoints, settings.home / "logs"))
        options = host_data(settings, DataOptions(**dict(plan.configs[0].data)), request.data)
        with images_in_use(options, settings, signals.check) as data:
            plan = with_images(plan, data)
            progress = open_progress()
            try:
                finished = _Retrain(
                    request=request,
                    settings=settings,
                    database=database,
                    plan=plan,
                    progress=progress,
                    signals=signals,
                    data=data,
                ).run()
            finally:
                progress.close()
    if not finished:
        log.info("interrupted: run the same command to continue from the last epochs")
    return 0 if finished else 130


@dataclass(kw_only=True)
class _Retrain:
    """One retrain."""

    request: RetrainRequest
    settings: Settings
    database: Database
    plan: Plan
    progress: Progress
    signals: SignalHandler
    data: DataOptions
    """The data of all configurations, on this host."""

    def __post_init__(self) -> None:
        study = self.plan.study
        same_name = study is not None and study.name == self.request.study
        folder = study.folder if study is not None and same_name else self.request.study
        self.checkpoints = self.settings.checkpoints / folder
        self.logs = self.settings.home / "logs" / folder
        self.folders = RunFolders(self.checkpoints, self.request.study)

    def run(self) -> bool:
        """Choose among candidates, train, test and write results; return False if interrupted."""
        configs = self.plan.configs
        searched = sum(config.trial is not None for config in configs)
        if searched < self.request.top:
            log.info(
                f"--top {self.request.top}: the study has only"
                f" {formatting.counted(searched, 'different complete configuration')}"
            )
        writing = self.checkpoints / f"results-{self.plan.folder.name}"
        with exclusive_lock(writing, self.request.study):
            finished = self._train(configs)
            if finished:
                CheckpointFolder(writing).delete()
        return finished

    def _train(self, configs: Sequence[Config]) -> bool:
        if len(configs) == 1:
            return self._final(configs[0])
        with self._loaded(configs, len(configs) * self.request.seeds, final=False) as (pool, description):
            check_declarations(configs[0], description)
            code = description.code
            report_other_code(codes_of(self.database, self.plan.study, configs), code)
            folder = self.folders.of("candidates", configs, code)
            with exclusive_lock(folder, self.request.study):
                work = SessionLog(folder)
                selection = self._selection(configs, folder, pool)
                pool.close()
                if selection is None or self.signals.received:
                    # A signal in the last moments of the candidates ends the retrain before everything is loaded again.
                    work.end()
                    return False
                finished = self._final(selection.winner, selection, work, code)
        if finished:
            self.folders.delete("candidates", configs)
        return finished

    def _selection(self, configs: Sequence[Config], folder: Path, pool: TrainerPool) -> Selection | None:
        kept = read_selection(folder, configs, self.request.seeds, racing=self.request.racing)
        if kept is not None:
            log.info(f"{named(kept.winner.trial)} was chosen before")
            return kept
        selection = select(
            configs,
            self.request,
            self.plan.default,
            folder,
            self.logs,
            pool,
            self.progress,
            self.signals,
        )
        if selection is not None:
            write_selection(folder, selection)
            report_selection(selection)
        return selection

    def _final(
        self,
        config: Config,
        selection: Selection | None = None,
        work: SessionLog | None = None,
        code: str | None = None,
    ) -> bool:
        """Train the final runs and write their results; `work` and `code` are those of the selection."""
        # Before the training: the file may be edited meanwhile, or another commit checked out.
        commit = git_commit()
        sha256 = objective_sha256(loader.resolve(config.objective))
        with self._loaded([config], self.request.seeds, final=True) as (pool, description):
            if code is None:
                report_other_code(codes_of(self.database, self.plan.study, [config]), description.code)
            elif code != description.code:
                raise ObjectiveBrokenError(
                    f"the code of {config.objective} was changed after the candidates were trained: run the same"
                    " command again to begin again with the new code"
                )
            if self.request.config is not None:
                check_file(self.request.config, config, description)
            check_declarations(config, description)
            report_epochs(config)
            base = self.folders.of("retrain", [config], description.code)
            with exclusive_lock(base, self.request.study):
                about = {
                    "working_directory_commit": commit,
                    "objective_code": description.code,
                    **({"objective_sha256": sha256} if sha256 is not None else {}),
                    **({"selection": selection.to_json()} if selection is not None else {}),
                }
                finished = self._train_final(config, pool, base, work or SessionLog(base), about)
        if finished:
            self.folders.delete("retrain", [config])
        return finished

    def _train_final(
        self, config: Config, pool: TrainerPool, base: Path, work: SessionLog, about: dict[str, Any]
    ) -> bool:
        seeds = [FIRST_SEED + index for index in range(self.request.seeds)]
        runs = self._final_runs(config, seeds, base)

        def truncate_logs() -> None:
            pool.truncate_log()
            for run in runs:
                run.printed.truncate()

        retry = training_retry(self.signals.event, truncate_logs)
        record = RetrainRecord(self.database, retry, self.plan.study, config, seeds, base)
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
            **about,
            **record.to_json(),
        }
        pool.close()
        results = [run.result for run in runs if run.result is not None]
        metrics = write_results(self.plan.folder, config, results, about, base / "output" / "model.keras")
        record.finish(metrics)
        report_results(self.plan, config.metric, results, about)
        log_retrain(self.request, self.plan, record.retrain_id, metrics, self.settings)
        return True

    def _final_runs(self, config: Config, seeds: Sequence[int], base: Path) -> list[SeedRun]:
        """Return a run for each seed, the first of which writes the model."""
        return [
            SeedRun(
                config=config,
                seed=seed,
                folder=CheckpointFolder(base / f"seed-{seed}"),
                log=self.logs / f"retrain-seed-{seed}.log",
                output=base / "output" if seed == seeds[0] else None,
            )
            for seed in seeds
        ]

    @contextmanager
    def _loaded(
        self, configs: Sequence[Config], runs: int, *, final: bool
    ) -> Iterator[tuple[TrainerPool, Description]]:
        """Load the objective of configurations for so many runs, with its declarations."""
        options = self.request.agent
        devices = slots_here(self.request.workers, check_lanes(options).slots, at_most=runs)
        load = Load(configs[0].objective, self.data, final, space=space_of([one.params for one in configs]))
        with TrainerPool(load, devices, self.logs / f"retrain-template-{os.getpid()}.log") as pool:
            pool.fresh_processes = options.fresh_processes
            check = loading_check(self.signals, pool, options)
            description = pool.describe(check)
            choice = LaneChoice(pool, load, options, description, self.settings.home)
            choice.apply(lambda: dict(configs[0].params), runs, check, in_rounds=True)
            yield pool, description
