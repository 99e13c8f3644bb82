"""`hpo launch` and `hpo worker`: create or join a study and run an agent on this host."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace

from hpo import enroll, numbers
from hpo.agent import Agent, AgentTimes, Ending
from hpo.books import Books
from hpo.checkpoints import check_writable
from hpo.enroll import Enrolled
from hpo.errors import HpoError
from hpo.last_resort import ending_in_time
from hpo.lease_keeper import LeaseKeeper
from hpo.messages import Load
from hpo.pool import TrainerPool
from hpo.progress import Progress, open_progress
from hpo.requests import AgentOptions, LaunchDefaults, LaunchRequest, check_study_name
from hpo.settings import Settings
from hpo.slots import plan_slots, usable_cores, visible_gpus
from hpo.strategies import check_sampler
from hpo.study import find_study
from objectives import loader
from objectives.base import DataOptions
from storage.engine import Database, open_database
from storage.leases import LeaseTimes
from storage.retry import Retry

PATIENCE_SECONDS = 3600.0
"""How long an agent waits for a database that went away while trials train."""


def launch(request: LaunchRequest, settings: Settings) -> int:
    """Create or continue a study and run it here; returns the exit code.

    Raises:
        HpoError: whatever is wrong with the request, the objective, the data or the database.
    """
    check_study_name(request.study)
    if request.objective is not None:
        loader.resolve(request.objective)
    with open_database(settings.storage, settings.home) as database:
        existing = enroll.find(database, request.study)
        check_sampler(request.sampler or (existing.spec.sampler if existing else LaunchDefaults.sampler))
        reference = _reference(request, existing)
        data = enroll.data_options(request, existing)
        with _pool(reference, data_dir_of(settings, data), request.study, request.workers, settings) as pool:
            study = enroll.enroll(database, request, reference, pool.describe(), existing)
            if not request.run:
                _say_prepared(study)
                return 0
            return _run(database, study, pool, settings, request.agent, request.timeout_seconds)


def work(study: str, slots: int | None, settings: Settings, options: AgentOptions) -> int:
    """Join a study that exists and run its trials here; returns the exit code.

    Raises:
        UnknownStudyError: there is no such study.
        HpoError: as for `launch`.
    """
    with open_database(settings.storage, settings.home) as database:
        # Raises, with the nearest names, where there is none.
        find_study(database, study)
        existing = enroll.find(database, study)
        assert existing is not None
        spec = existing.spec
        data = data_dir_of(settings, spec.data)
        with _pool(spec.objective, data, study, slots, settings) as pool:
            pool.describe()
            return _run(database, existing, pool, settings, options, None)


def data_dir_of(settings: Settings, data: DataOptions) -> DataOptions:
    """The study's data options with this host's data folder."""
    return replace(data, data_dir=str(settings.data_dir))


def _reference(request: LaunchRequest, existing: Enrolled | None) -> str:
    if request.objective is not None:
        return loader.resolve(request.objective)
    return existing.spec.objective if existing is not None else loader.resolve(request.study)


def _pool(
    reference: str, data: DataOptions, study: str, workers: int | None, settings: Settings
) -> TrainerPool:
    devices = plan_slots(workers, usable_cores(), visible_gpus())
    log = settings.home / "logs" / study / f"template-{os.getpid()}.log"
    return TrainerPool(Load(reference, data, final=False), devices, log)


def _run(
    database: Database,
    study: Enrolled,
    pool: TrainerPool,
    settings: Settings,
    options: AgentOptions,
    timeout_seconds: float | None,
) -> int:
    check_sampler(study.spec.sampler)
    check_writable(settings.checkpoints)
    interrupted = threading.Event()
    progress = open_progress()
    times = LeaseTimes(settings.lease_seconds)
    retry = Retry(
        patience_seconds=PATIENCE_SECONDS,
        interrupted=interrupted,
        on_wait=_OncePerOutage(progress),
    )
    books = Books(database, study.study_id, study.name, study.spec, len(pool.devices), retry, times)
    agent: Agent | None = None
    keeper = LeaseKeeper(
        database, books.agent_id, times, lambda: agent.held() if agent is not None else frozenset()
    )
    agent = Agent(
        study.name,
        study.spec,
        books,
        pool,
        keeper,
        progress,
        settings.checkpoints,
        settings.home / "logs" / study.name,
        AgentTimes(hung_seconds=options.hung_seconds),
        interrupted,
        timeout_seconds,
        options.memory_bytes,
    )
    keeper.start()
    with ending_in_time():
        try:
            with _signals(agent):
                ending = agent.run()
        finally:
            progress.close()
            keeper.close()
            # Leases that cannot be given back now run out by themselves.
            with suppress(HpoError):
                books.leave()
    if ending is Ending.DONE:
        _say_what_next(books, study, progress)
    return int(ending)


def _say_prepared(study: Enrolled) -> None:
    progress = open_progress()
    progress.say(f"study {study.name} wants {study.budget} trials in all, and is told to {study.control}")
    progress.say(f"next, on any machine: hpo worker --study {study.name}")
    progress.close()


def _say_what_next(books: Books, study: Enrolled, progress: Progress) -> None:
    standing = books.standing()
    counts = standing.counts
    progress.say(
        f"study {study.name}: {counts.finished} of {counts.budget} trials finished"
        f" ({counts.complete} complete, {counts.pruned} pruned), {counts.failed} failed"
    )
    if standing.best is None and counts.finished:
        progress.say(
            f"no trial is complete, so there is no best one: hpo trials --study {study.name} says why each ended"
        )
    if standing.best is not None:
        number, value, params = standing.best
        progress.say(f"best: {study.spec.metric} {value:.4f} in trial {number}: {numbers.parameters(params)}")
        progress.say(f"next: hpo retrain --study {study.name}   or   hpo export --study {study.name}")


class _OncePerOutage:
    """Tells the user once that the database is away, not at each attempt to reach it."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._told = 0.0

    def __call__(self, error: BaseException, _seconds: float) -> None:
        now = time.monotonic()
        if now - self._told > 30.0:
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            self._progress.say(f"the database does not answer, trying again (training goes on): {reason}")
        self._told = now


@contextmanager
def _signals(agent: Agent) -> Iterator[None]:
    before = {
        number: signal.signal(number, agent.handle_signal) for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
