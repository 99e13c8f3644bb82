"""`hpo launch` and `hpo worker`: create or join a study and run an agent on this host."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace

from hpo.agent.agent import Agent
from hpo.agent.attempts import AttemptTable
from hpo.agent.cleanup import Cleanup
from hpo.agent.image_data import images_in_use
from hpo.agent.lanes.choice import LaneChoice
from hpo.agent.leases import LeaseRenewal
from hpo.agent.loads import expected_load, host_data, load_of, reference_of, trials_left
from hpo.agent.model_check import check_model, one_configuration
from hpo.agent.next_steps import log_next_steps
from hpo.agent.outages import open_for_training, training_retry
from hpo.agent.running_attempt import RunningAttempt
from hpo.agent.store.trial_store import TrialStore
from hpo.devices.backends import choose_backend
from hpo.devices.slots import slots_here
from hpo.errors import HpoError
from hpo.options.defaults import LaunchDefaults
from hpo.options.hosts import AgentOptions
from hpo.options.launch_request import LaunchRequest
from hpo.options.study_name import check_study_name
from hpo.options.worker_request import WorkRequest
from hpo.process.shutdown import ExitCode
from hpo.process.signals import SignalHandler, interruptible
from hpo.search.samplers import check_sampler
from hpo.settings import Settings
from hpo.study.catalog import find_study
from hpo.study.definition import create, identity, kept_estimate, versions
from hpo.study.definition.launch_options import check_design, check_options
from hpo.study.definition.launched_study import LaunchedStudy, find
from hpo.study.definition.objective_file import check_objective_file
from hpo.study.definition.raised_epochs import with_raised_epochs
from hpo.study.definition.requested_spec import data_of, requested_space
from hpo.study.definition.selected_metric import selected
from hpo.study.folders import move_former
from hpo.terminal.log import set_study
from hpo.terminal.progress import open_progress
from hpo.trackers.logging_process import follow_study
from hpo.trackers.target import parse_targets
from hpo.trainer.checkpointing.checkpoints import check_writable
from hpo.trainer.lanes.refusal import check_lanes
from hpo.trainer.pool import TrainerPool
from hpo.trainer.supervisor import Supervisor
from hpo.trainer.template.current import StartTemplate
from hpo.trainer.template.early import EarlyTemplate
from hpo.trainer.template.interpreter import template_log
from hpo.trainer.template.messages import Load
from hpo.trainer.template.process import start_template
from objectives import loader
from objectives.base import DataOptions
from objectives.description import Description
from objectives.device import Device
from storage.engine import Database
from storage.leases import LeaseTimes

log = logging.getLogger(__name__)


def launch(request: LaunchRequest, settings: Settings, early: EarlyTemplate | None = None) -> int:
    """Create or continue a study and run it here; return the exit code.

    `early` is a template that has been started for it.

    Raises:
        HpoError: the request, the objective, the data or the database is at fault.
    """
    check_study_name(request.study)
    set_study(request.study)
    if request.objective is not None:
        loader.resolve(request.objective)
    if request.run:
        parse_targets(request.agent.log_to)
    template: StartTemplate = start_template
    if early is not None:
        template = early.start
        if (load := expected_load(request, settings)) is not None:
            early.load(load)
    with interruptible() as signals, open_for_training(settings) as database:
        if not request.run:
            study = prepare(database, request, settings)
            log.info(f"{study.budget} trials in total, state: {study.desired_state}")
            log.info(f"next, on any machine: hpo worker --study {study.name}")
            return 0
        check_writable(settings.checkpoints)
        with loaded(database, request, settings, signals, template) as it:
            study = create.create_or_continue(
                database, request, it.reference, it.description, it.existing, it.data.digest
            )
            study = kept_estimate.adopt(database, study, settings.home)
            folders = (settings.checkpoints, settings.home / "logs")
            refused = create.discarded_if_refused(database, study, folders)
            with refused if it.existing is None else nullcontext():
                return _run(database, study, it.pool, settings, request, signals, request.timeout_seconds)


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """The objective of a launch, whose data are being loaded, in a pool of its own."""

    existing: LaunchedStudy | None
    reference: str
    data: DataOptions
    """The data on this host, with their digest."""
    description: Description
    pool: TrainerPool


@contextmanager
def loaded(
    database: Database,
    request: LaunchRequest,
    settings: Settings,
    signals: SignalHandler,
    template: StartTemplate = start_template,
) -> Iterator[Loaded]:
    """Load the objective of a launch and check that a new study can train; nothing is written to the database.

    Raises:
        HpoError: the request, the objective, the data or the database is at fault.
    """
    existing, reference, options = _checked(database, request, settings)
    check_lanes(request.agent)
    devices = slots_here(request.workers, request.agent.slots)
    with images_in_use(options, settings, signals.check) as data, ExitStack() as stack:
        load = load_of(request, existing, reference, data)
        pool = stack.enter_context(_pool(load, request.study, devices, settings, template))
        # Its connection and its imports take time that passes anyway while the template imports a framework.
        database.retried(lambda: database.optuna)
        check = loading_check(signals, pool, request.agent)
        description = pool.describe(check)
        space = existing.spec.space if existing else requested_space(request, description, data.digest)
        if existing is None and description.builds_models:
            judged = selected(description, request.metric)
            check_model(pool, judged, space, settings.home / "logs", check)
        choice = LaneChoice(pool, load, request.agent, description, settings.home)
        choice.apply(lambda: one_configuration(description, space), trials_left(request, existing), check)
        yield Loaded(existing=existing, reference=reference, data=data, description=description, pool=pool)


def prepare(database: Database, request: LaunchRequest, settings: Settings) -> LaunchedStudy:
    """Create or continue a study whose agents run elsewhere; the objective is imported, but no named data set.

    Raises:
        HpoError: the request or the objective is at fault.
    """
    existing, reference, options = _checked(database, request, settings)
    with (
        images_in_use(options, settings) as data,
        _pool(load_of(request, existing, reference, data), request.study, [], settings) as pool,
    ):
        study = create.create_or_continue(
            database, request, reference, pool.describe(), existing, data.digest
        )
        return kept_estimate.adopt(database, study, settings.home)


def work(request: WorkRequest, settings: Settings) -> int:
    """Join an existing study and run its trials here; return the exit code.

    Raises:
        UnknownStudyError: the study does not exist.
        HpoError: as in `launch`.
    """
    study, options = request.study, request.agent
    set_study(study)
    parse_targets(options.log_to)
    with interruptible() as signals, open_for_training(settings) as database:
        # Raises with the nearest names if there is no such study.
        find_study(database, study)
        existing = find(database, study)
        assert existing is not None
        choose_backend(options.backend, existing.spec.backend, study)
        check_objective_file(existing.spec.objective, study)
        check_writable(settings.checkpoints)
        check_lanes(options)
        devices = slots_here(request.workers, options.slots)
        with images_in_use(
            host_data(settings, existing.spec.data, request.data), settings, signals.check
        ) as data:
            identity.check_worker_images(study, existing.spec, data.digest)
            load = Load(existing.spec.objective, data, False, space=existing.spec.space)
            with _pool(load, study, devices, settings) as pool:
                database.retried(lambda: database.optuna)
                check = loading_check(signals, pool, options)
                description = pool.describe(check)
                identity.check_worker(study, existing.spec, description, request.code)
                versions.report_interrupted(database, existing, description.code, request.code)
                spec = replace(
                    existing.spec, code=description.code, data=replace(existing.spec.data, digest=data.digest)
                )
                choice = LaneChoice(pool, load, options, description, settings.home)
                left = existing.budget - existing.finished
                choice.apply(lambda: one_configuration(description, spec.space), left, check)
                return _run(database, replace(existing, spec=spec), pool, settings, request, signals)


def _checked(
    database: Database, request: LaunchRequest, settings: Settings
) -> tuple[LaunchedStudy | None, str, DataOptions]:
    """Return the study, if it exists, with the request's objective and data, checked before their slow import."""
    existing = find(database, request.study)
    if existing is not None:
        check_design(existing.spec, request)
    choose_backend(
        request.agent.backend, existing.spec.backend if existing and existing.begun else "", request.study
    )
    check_sampler(request.sampler or (existing.spec.sampler if existing else LaunchDefaults.sampler))
    reference = reference_of(request, existing)
    if existing is not None and existing.begun:
        raised = with_raised_epochs(existing, request)
        check_options(existing.name, raised.spec, request, reference)
    return existing, reference, host_data(settings, data_of(request, existing))


def _pool(
    load: Load,
    study: str,
    devices: Sequence[Device],
    settings: Settings,
    template: StartTemplate = start_template,
) -> TrainerPool:
    settings.make_home()
    return TrainerPool(load, devices, template_log(study, settings.home), template)


def loading_check(signals: SignalHandler, pool: TrainerPool, options: AgentOptions) -> Callable[[], None]:
    """Return a check that ends the wait for an objective that is being loaded."""

    def check() -> None:
        signals.check()
        pool.check_loading(options.hung_seconds)

    return check


def _run(
    database: Database,
    study: LaunchedStudy,
    pool: TrainerPool,
    settings: Settings,
    request: LaunchRequest | WorkRequest,
    signals: SignalHandler,
    timeout_seconds: float | None = None,
) -> int:
    check_sampler(study.spec.sampler)
    progress = open_progress()
    attempts: AttemptTable | None = None
    lease_renewal: LeaseRenewal | None = None

    def while_waiting_for_database() -> None:
        # Trainers go on printing, and an agent that waits for the database is alive.
        if attempts is not None:
            attempts.truncate_logs()
        if lease_renewal is not None:
            lease_renewal.heartbeat()

    move_former(database, study, (settings.checkpoints, settings.home / "logs"))
    times = LeaseTimes(settings.lease_seconds)
    retry = training_retry(signals.event, while_waiting_for_database)
    store = TrialStore(database, study.study_id, study.name, study.spec, pool.devices, retry, times)
    logs = settings.home / "logs" / study.folder
    cleanup = Cleanup(study.folder, store, settings.checkpoints, logs, study.spec.checkpoint_quota_bytes)
    options = request.agent
    pool.fresh_processes = options.fresh_processes
    supervisor: Supervisor[RunningAttempt] = Supervisor(
        pool, signals, hung_seconds=options.hung_seconds, memory_bytes=options.memory_bytes
    )
    attempts = AttemptTable(
        study.spec, store, supervisor, cleanup, restarts_other_code=request.code == "restart"
    )
    lease_renewal = LeaseRenewal(database, store.agent_id, times, attempts.held)
    agent = Agent(store, supervisor, attempts, lease_renewal, cleanup, progress, timeout_seconds)
    lease_renewal.start()
    trackers = follow_study(parse_targets(options.log_to), study.study_id, settings)
    try:
        with signals.deferred():
            exit_code = agent.run()
    finally:
        progress.close()
        lease_renewal.close()
        # Leases that cannot be released now expire by themselves.
        with suppress(HpoError):
            store.leave()
        trackers.close(hurried=lambda: signals.terminated or len(signals.received) > 1)
    with suppress(HpoError) if exit_code is ExitCode.INTERRUPTED else nullcontext():
        log_next_steps(database, store.refresh(), study)
    return int(exit_code)
