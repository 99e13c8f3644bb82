"""`hpo launch` and `hpo worker`: create or join a study and run an agent on this host."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace

from hpo import formatting
from hpo.agent.agent import Agent
from hpo.agent.attempts import AttemptTable
from hpo.agent.cleanup import Cleanup
from hpo.agent.lease_renewal import LeaseRenewal
from hpo.agent.outages import training_retry
from hpo.agent.trial_store import StudySnapshot, TrialStore
from hpo.devices.slots import slots_here
from hpo.errors import HpoError, UnknownObjectiveError
from hpo.options import AgentOptions, LaunchDefaults, LaunchRequest, check_study_name
from hpo.process.shutdown import ExitCode
from hpo.process.signals import SignalHandler, interruptible
from hpo.search.samplers import check_sampler
from hpo.settings import Settings
from hpo.study import create
from hpo.study.catalog import find_study
from hpo.study.create import Enrolled
from hpo.terminal.log import set_study
from hpo.terminal.progress import open_progress
from hpo.trainer.checkpoints import check_writable
from hpo.trainer.messages import Load
from hpo.trainer.pool import TrainerPool
from objectives import loader
from objectives.base import DataOptions, Device
from storage.engine import Database, open_database
from storage.leases import LeaseTimes

log = logging.getLogger(__name__)


def launch(request: LaunchRequest, settings: Settings) -> int:
    """Create or continue a study and run it here; returns the exit code.

    Raises:
        HpoError: whatever is wrong with the request, the objective, the data or the database.
    """
    check_study_name(request.study)
    set_study(request.study)
    if request.objective is not None:
        loader.resolve(request.objective)
    with interruptible() as interruption, open_database(settings.storage, settings.home) as database:
        if not request.run:
            _log_created(enroll_only(database, request, settings))
            return 0
        existing = create.find(database, request.study)
        check_sampler(request.sampler or (existing.spec.sampler if existing else LaunchDefaults.sampler))
        reference = _reference(request, existing)
        if existing is not None and existing.begun:
            # Before the objective is imported, which takes long.
            create.check_options(existing, request, reference)
        data = create.data_options(request, existing)
        devices = slots_here(request.workers, request.agent.slots)
        with _pool(reference, data_dir_of(settings, data), request.study, devices, settings) as pool:
            description = pool.describe(patience(interruption, pool, request.agent))
            study = create.enroll(database, request, reference, description, existing)
            return _run(database, study, pool, settings, request.agent, interruption, request.timeout_seconds)


def enroll_only(database: Database, request: LaunchRequest, settings: Settings) -> Enrolled:
    """Create or continue a study whose agents run elsewhere; the objective is looked at, and no data.

    Raises:
        HpoError: whatever is wrong with the request or the objective.
    """
    existing = create.find(database, request.study)
    check_sampler(request.sampler or (existing.spec.sampler if existing else LaunchDefaults.sampler))
    reference = _reference(request, existing)
    data = data_dir_of(settings, create.data_options(request, existing))
    with _pool(reference, data, request.study, [], settings) as pool:
        return create.enroll(database, request, reference, pool.describe(), existing)


def work(study: str, slots: int | None, settings: Settings, options: AgentOptions) -> int:
    """Join a study that exists and run its trials here; returns the exit code.

    Raises:
        UnknownStudyError: there is no such study.
        HpoError: as for `launch`.
    """
    set_study(study)
    with interruptible() as interruption, open_database(settings.storage, settings.home) as database:
        # Raises, with the nearest names, where there is none.
        find_study(database, study)
        existing = create.find(database, study)
        assert existing is not None
        spec = existing.spec
        data = data_dir_of(settings, spec.data)
        devices = slots_here(slots, options.slots)
        with _pool(spec.objective, data, study, devices, settings) as pool:
            pool.describe(patience(interruption, pool, options))
            return _run(database, existing, pool, settings, options, interruption)


def data_dir_of(settings: Settings, data: DataOptions) -> DataOptions:
    """The study's data options with this host's data folder."""
    return replace(data, data_dir=str(settings.data_dir))


def _reference(request: LaunchRequest, existing: Enrolled | None) -> str:
    if request.objective is not None:
        return loader.resolve(request.objective)
    if existing is not None:
        return existing.spec.objective
    try:
        return loader.resolve(request.study)
    except UnknownObjectiveError as exc:
        raise UnknownObjectiveError(
            f"study {request.study!r} is new, and --objective does not say what it tunes: {exc}"
        ) from None


def _pool(
    reference: str, data: DataOptions, study: str, devices: Sequence[Device], settings: Settings
) -> TrainerPool:
    # Not in the study's own folder, whose name is not known before the study is made.
    log = settings.home / "logs" / f"template-{study}-{os.getpid()}.log"
    return TrainerPool(Load(reference, data, final=False), devices, log)


def patience(interruption: SignalHandler, pool: TrainerPool, options: AgentOptions) -> Callable[[], None]:
    """What ends the wait for an objective that is being loaded."""

    def check() -> None:
        interruption.check()
        pool.check_loading(options.hung_seconds)

    return check


def _run(
    database: Database,
    study: Enrolled,
    pool: TrainerPool,
    settings: Settings,
    options: AgentOptions,
    interruption: SignalHandler,
    timeout_seconds: float | None = None,
) -> int:
    check_sampler(study.spec.sampler)
    check_writable(settings.checkpoints)
    progress = open_progress()
    attempts: AttemptTable | None = None
    lease_renewal: LeaseRenewal | None = None

    def meanwhile() -> None:
        # Trainers print on, and who waits for the database is at work.
        if attempts is not None:
            attempts.bound_logs()
        if lease_renewal is not None:
            lease_renewal.beat()

    times = LeaseTimes(settings.lease_seconds)
    retry = training_retry(interruption.event, meanwhile)
    store = TrialStore(database, study.study_id, study.name, study.spec, pool.devices, retry, times)
    files = Cleanup(
        study.folder,
        store,
        settings.checkpoints,
        settings.home / "logs" / study.folder,
        study.spec.checkpoint_quota_bytes,
    )
    attempts = AttemptTable(study.spec, store, pool, files, options.memory_bytes)
    lease_renewal = LeaseRenewal(database, store.agent_id, times, attempts.held)
    agent = Agent(
        study.name,
        study.spec,
        store,
        pool,
        attempts,
        lease_renewal,
        progress,
        files,
        interruption,
        options.hung_seconds,
        timeout_seconds,
    )
    lease_renewal.start()
    try:
        with interruption.deferred():
            ending = agent.run()
    finally:
        progress.close()
        lease_renewal.close()
        # Leases that cannot be given back now run out by themselves.
        with suppress(HpoError):
            store.leave()
    if ending is ExitCode.DONE:
        log_next_steps(store.snapshot(), study)
    return int(ending)


def _log_created(study: Enrolled) -> None:
    log.info(f"study {study.name}: {study.budget} trials in total, state: {study.control}")
    log.info(f"next, on any machine: hpo worker --study {study.name}")


def log_next_steps(snapshot: StudySnapshot, study: Enrolled) -> None:
    """Log the results of a study whose agents have ended, and the command to run next."""
    counts = snapshot.counts
    log.info(
        f"study {study.name}: {counts.finished} of {counts.budget} trials finished"
        f" ({counts.complete} complete, {counts.pruned} pruned), {counts.failed} failed"
    )
    if snapshot.best is None and counts.finished:
        log.info(
            f"no trial is complete, so there is no best one: hpo trials --study {study.name} says why each ended"
        )
    if snapshot.best is not None:
        number, value, params = snapshot.best
        log.info(f"best: {study.spec.metric} {value:.4f} in trial {number}: {formatting.parameters(params)}")
        log.info(f"next: hpo retrain --study {study.name}   or   hpo export --study {study.name}")
