"""Loads of a template for a study: the objective, with the data and the space of the study on this host."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from hpo.errors import HpoError, UnknownObjectiveError, UsageError
from hpo.options.defaults import LaunchDefaults
from hpo.options.launch_request import LaunchRequest
from hpo.search.space_overrides import Narrowing
from hpo.settings import Settings
from hpo.study.definition.launched_study import LaunchedStudy
from hpo.study.definition.objective_file import check_objective_file
from hpo.study.definition.requested_spec import data_of
from hpo.trainer.template.messages import Load, StudySpace
from objectives import loader
from objectives.base import DataOptions


def expected_load(request: LaunchRequest, settings: Settings) -> Load | None:
    """Return what a new study would load; None if it cannot be known before the study and its images are read."""
    # The errors of a study that exists may be others.
    with suppress(HpoError):
        data = host_data(settings, data_of(request, None))
        if data.source is None:
            return load_of(request, None, reference_of(request, None), data)
    return None


def load_of(
    request: LaunchRequest, existing: LaunchedStudy | None, reference: str, data: DataOptions
) -> Load:
    """Return what a search loads; `existing` is the study, if it exists."""
    space: StudySpace = Narrowing(request.params)
    if existing is not None and existing.spec.narrowed and not request.params:
        space = existing.spec.space
    return Load(reference, data, False, space=space)


def reference_of(request: LaunchRequest, existing: LaunchedStudy | None) -> str:
    """Return the objective of the request, else that of the study, or the shipped one of the study's name.

    Raises:
        UnknownObjectiveError: there is none.
    """
    if request.objective is not None:
        return loader.resolve(request.objective)
    if existing is not None:
        check_objective_file(existing.spec.objective, existing.name)
        return existing.spec.objective
    try:
        return loader.resolve(request.study)
    except UnknownObjectiveError as exc:
        raise UnknownObjectiveError(
            f"study {request.study!r} is new and has no objective of that name: give --objective ({exc})"
        ) from None


def trials_left(request: LaunchRequest, existing: LaunchedStudy | None) -> int:
    """Return the number of trials that have yet to finish."""
    if existing is None:
        return request.trials or LaunchDefaults.trials
    return (request.trials or existing.budget) - existing.finished


def host_data(settings: Settings, data: DataOptions, images: Path | None = None) -> DataOptions:
    """Return a study's data options with the folders of this host, and the place of its data here if given.

    Raises:
        UsageError: `images` are given to a study without.
    """
    if images is not None:
        if data.source is None:
            raise UsageError("--data applies to studies of data of your own: leave it out")
        data = replace(data, source=str(images.expanduser().absolute()))
    return replace(data, data_dir=str(settings.data_dir), cache_dir=str(settings.cache_dir))
