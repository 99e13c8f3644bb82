"""An exploration as it is requested: which data, by which options of images, and judged by which model."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from hpo.errors import UsageError
from hpo.explore.exploration_document import Exploration
from hpo.explore.explore import explore
from hpo.explore.model import judged_by
from hpo.explore.sources import opened_dataset
from hpo.models.choice import ChosenModel, choose_model
from hpo.options.images import ImageOptions
from hpo.settings import Settings
from hpo.study.definition.launched_study import find
from hpo.study.definition.study_data import with_images
from hpo.terminal.work_progress import WorkProgress
from objectives.base import DataOptions
from storage.opening import open_database

if TYPE_CHECKING:
    from hpo.document.document import Document


@dataclass(frozen=True, kw_only=True)
class ExploreRequest:
    """The data to explore, and the model that judges their labels."""

    name: str | None = None
    """Data set, path or objective; None: the data of `study`."""
    study: str | None = None
    """Study whose retrained model judges the labels."""
    model: Path | None = None
    """Folder or file of the model that judges the labels instead."""
    objective: str | None = None
    """Objective whose code `model` may need."""
    images: ImageOptions = field(default_factory=ImageOptions)
    output: Path | None = None


@dataclass(frozen=True, kw_only=True)
class Explored:
    """A written exploration."""

    document: Document
    folder: Path
    files: list[str]


def run(request: ExploreRequest, settings: Settings) -> Explored:
    """Explore a data set and write the files.

    Raises:
        HpoError: the data, the study or the model cannot be read, or the files cannot be written.
    """
    if request.name is None and request.study is None:
        raise UsageError(
            "no data is named: give a data set, a folder, a table, a file or an objective, or a study with --study"
        )
    model: ChosenModel | None = None
    if request.model is not None or request.study is not None:
        model = choose_model(settings, study=request.study, model=request.model, objective=request.objective)
    name, options = _data(request, settings)
    with opened_dataset(name, settings, options) as dataset:
        folder = request.output or settings.results_dir / f"data-{dataset.name}"
        with closing(WorkProgress(dataset.noun)) as progress:
            judgement = None if model is None else judged_by(model, dataset, progress.update)
            found = Exploration(dataset, judgement, progress.update)
            document, files = explore(dataset, folder, found)
    return Explored(document=document, folder=folder, files=files)


def _data(request: ExploreRequest, settings: Settings) -> tuple[str, DataOptions]:
    """Return the name of the data and the options of images: requested ones, or else those of the study."""
    options, name = DataOptions(data_dir=str(settings.data_dir)), request.name
    if request.study is not None:
        with open_database(settings.storage, settings.home) as database:
            study = find(database, request.study)
        assert study is not None
        options = replace(study.spec.data, data_dir=str(settings.data_dir))
        name = name or options.source or study.spec.objective
    assert name is not None
    return name, with_images(request.images, options)
