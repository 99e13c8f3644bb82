"""`hpo plan`: the cost of a search before it begins, from a probe of its default configuration."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Any

from hpo.agent.launch import Loaded, loaded, loading_check
from hpo.agent.model_check import one_configuration
from hpo.errors import UsageError
from hpo.options.defaults import LaunchDefaults
from hpo.options.launch_request import LaunchRequest
from hpo.options.study_name import check_study_name
from hpo.planning.costs import Work, affordable, estimated, work_of
from hpo.planning.folders import folder_name, remove_abandoned
from hpo.planning.memory import free_memory
from hpo.planning.probe import Probe
from hpo.planning.probe_run import Measurement
from hpo.process.signals import SignalHandler, interruptible
from hpo.search.spec import StudySpec
from hpo.settings import Settings
from hpo.study.definition import kept_estimate
from hpo.study.definition.create import planned_spec
from hpo.study.estimates import Estimate
from hpo.terminal.log import set_study
from hpo.trackers.target import parse_targets
from hpo.trainer.checkpointing.checkpoints import check_writable
from objectives import loader
from objectives.base import Params
from storage.engine import Database
from storage.goals import trained_epochs
from storage.opening import open_database


@dataclass(frozen=True, kw_only=True)
class Planned:
    """A planned search."""

    study: str
    objective: str
    pruner: str
    params: dict[str, Any]
    """The default configuration, of which the cost was measured."""
    estimate: Estimate
    ended_after: int | None
    """Epochs after which the default configuration ended; None if it did not end in the probe."""
    timeout_seconds: float | None
    affordable: tuple[int, int] | None
    """Fewest and most trials that finish within `--timeout`; None without one."""
    stops_early: bool
    """Whether the search has a goal that may end it before its budget is spent."""


def plan(request: LaunchRequest, probe_seconds: float, settings: Settings) -> Planned:
    """Measure the default configuration in all slots and return the cost of the search.

    It creates no study. The estimate of a study that does not exist yet is kept for its launch.

    Raises:
        HpoError: as `hpo.agent.launch.launch`; the default configuration fails, or its time cannot be measured.
        UsageError: no trial is left.
    """
    check_study_name(request.study)
    set_study(request.study)
    if request.objective is not None:
        loader.resolve(request.objective)
    parse_targets(request.agent.log_to)
    with interruptible() as signals, open_database(settings.storage, settings.home) as database:
        check_writable(settings.checkpoints)
        free_bytes, began_at = free_memory(), time.monotonic()
        with loaded(database, request, settings, signals) as it:
            spec = replace(_spec(database, request, it), estimate=None)
            work = _work(database, request, it, spec)
            check = loading_check(signals, it.pool, request.agent)
            while not it.pool.ready:
                check()
                it.pool.wait(0.2)
            load_seconds = time.monotonic() - began_at
            params = one_configuration(it.description, spec.space)
            found = _probe(request, settings, work, params, it, signals, probe_seconds)
        estimate = estimated(work, found, load_seconds, free_bytes)
        if it.existing is None or not it.existing.begun:
            kept_estimate.keep(settings.home, request.study, spec, _budget(request, it), estimate)
    limit = request.timeout_seconds
    return Planned(
        study=request.study,
        objective=it.reference,
        pruner=spec.pruner,
        params=dict(found.params),
        estimate=estimate,
        ended_after=found.ended_after,
        timeout_seconds=limit,
        affordable=None if limit is None else affordable(estimate, limit),
        stops_early=spec.target is not None or spec.patience is not None or bool(spec.stop_when_flat),
    )


def _spec(database: Database, request: LaunchRequest, it: Loaded) -> StudySpec:
    return planned_spec(database, request, it.reference, it.description, it.existing, it.data.digest)


def _budget(request: LaunchRequest, it: Loaded) -> int:
    return request.trials or (it.existing.budget if it.existing else LaunchDefaults.trials)


def _work(database: Database, request: LaunchRequest, it: Loaded, spec: StudySpec) -> Work:
    existing = it.existing
    if existing is not None and existing.begun and spec.epochs != existing.spec.epochs:
        raise UsageError(
            f"--epochs {spec.epochs}: how many finished trials go on depends on their values, so the cost is not"
            " planned: leave --epochs out"
        )
    trials = _budget(request, it)
    epochs = database.transaction(lambda c: trained_epochs(c, existing.study_id)) if existing else 0
    finished = existing.finished if existing else 0
    work = work_of(spec, trials, finished, epochs, len(it.pool.devices))
    if not work.trials or work.max_epochs == 0:
        spent = (
            f"{epochs} epochs are trained" if work.trials else f"{finished} of {trials} trials have finished"
        )
        option = "--max-epochs" if work.trials else "--trials"
        raise UsageError(
            f"nothing is left to plan for study {request.study!r}, because {spent}: give a larger {option}"
        )
    return work


def _probe(
    request: LaunchRequest,
    settings: Settings,
    work: Work,
    params: Params,
    it: Loaded,
    signals: SignalHandler,
    seconds: float,
) -> Measurement:
    remove_abandoned(settings.checkpoints, settings.home / "logs")
    folder = settings.checkpoints / folder_name()
    return Probe(
        work.spec,
        params,
        request.study,
        it.pool,
        signals,
        request.agent,
        work.slots,
        (folder, settings.home / "logs"),
        seconds,
    ).run()
