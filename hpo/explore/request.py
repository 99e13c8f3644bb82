"""An exploration as it is requested: which data, and by which options of images."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from hpo.explore.exploration_document import Exploration
from hpo.explore.explore import explore
from hpo.explore.sources import opened_dataset
from hpo.options.images import ImageOptions
from hpo.settings import Settings
from hpo.study.definition.study_data import with_images
from hpo.terminal.work_progress import WorkProgress
from objectives.base import DataOptions

if TYPE_CHECKING:
    from hpo.document.document import Document


@dataclass(frozen=True, kw_only=True)
class ExploreRequest:
    """The data to explore."""

    name: str
    """Data set, path or objective."""
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
        HpoError: the data cannot be read, or the files cannot be written.
    """
    options = with_images(request.images, DataOptions(data_dir=str(settings.data_dir)))
    with opened_dataset(request.name, settings, options) as dataset:
        folder = request.output or settings.results_dir / f"data-{dataset.name}"
        with closing(WorkProgress(dataset.noun)) as progress:
            document, files = explore(dataset, folder, Exploration(dataset, watch=progress.update))
    return Explored(document=document, folder=folder, files=files)
