"""Where the explored data are read from: a name, a file, a folder or table of images, or an objective."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from hpo.agent.image_data import image_cache
from hpo.errors import DataDamagedError, UnknownObjectiveError, UsageError
from hpo.explore.dataset import Dataset
from hpo.explore.image_files import image_files
from hpo.settings import Settings
from hpo.terminal.work_progress import WorkProgress
from objectives import loader
from objectives.augment import Augmentation
from objectives.base import DataOptions
from objectives.data import array_files, arrays, datasets
from objectives.data.arrays import Arrays
from objectives.data.splits import split, split_indices
from objectives.data_options import TaskName
from objectives.images import entry, provision, tables
from objectives.images.parallel import Watch


@contextmanager
def opened_dataset(name: str, settings: Settings, options: DataOptions) -> Iterator[Dataset]:
    """Load a data set, and keep its images in use within this block.

    `name` is a shipped data set, a file `<data_dir>/<name>.npz`, the path of an `.npz` file, of a folder or a table of
    images, or an objective. `options` are the options of images.

    Raises:
        UsageError: the name is unknown, or the objective has no data set of images.
        DataMissingError, DataDamagedError: the data set cannot be read.
        DiskFullError, FileNotWritableError: the cache of images has no room, or cannot be written.
    """
    path = Path(name).expanduser()
    if _is_known(name, settings.data_dir) or not is_image_source(path):
        yield load_dataset(name, settings.data_dir, options.task)
        return
    settings.make_home()
    progress = WorkProgress("images")
    try:
        with images_in_use(path, options, settings, progress.update) as dataset:
            progress.close()
            yield dataset
    finally:
        progress.close()


def _is_known(name: str, data_dir: Path) -> bool:
    return (
        name in datasets.SHIPPED
        or (data_dir / f"{name}.npz").is_file()
        or array_files.is_array_data(data_dir / name)
    )


def is_image_source(path: Path) -> bool:
    """Return whether a path is that of a folder or table of images."""
    if path.is_dir():
        return not array_files.is_array_data(path)
    return path.is_file() and path.suffix.lower() in tables.EXTENSIONS


@contextmanager
def images_in_use(path: Path, options: DataOptions, settings: Settings, watch: Watch) -> Iterator[Dataset]:
    """Read the images of a folder or table into the cache of this host, but for those that cannot be read."""
    source = path.absolute()
    options = replace(options, source=str(source), skip_unreadable=True, limit=None)
    cache = image_cache(settings)
    with provision.surveyed(options, cache, watch) as survey:
        digest = survey.provided.digest
        cached = replace(options, digest=digest, cache_dir=str(cache.folder))
        loaded, classes = provision.mapped(cached, final=False)
        tested, _ = provision.mapped(cached, final=True)
        paths = entry.paths(cache.entry(digest))
        ends = [0]
        for count in survey.provided.about.counts.values():
            ends.append(ends[-1] + count)
        names = ("training", "validation", "test")
        yield Dataset(
            name=source.stem if path.is_file() else source.name or "images",
            title="",
            data=split(loaded, cached, final=False, classes=classes),
            x_test=tested.x_test,
            y_test=tested.y_test,
            indices={},
            paths={name: paths[ends[at] : ends[at + 1]] for at, name in enumerate(names)},
            files=image_files(survey),
            augmentations=_augmentations(None),
        )


def load_dataset(name: str, data_dir: Path, task: TaskName | None = None) -> Dataset:
    """Load a data set of arrays: a shipped one, a file, or that of an objective; `task` replaces its own.

    Raises:
        UsageError, DataMissingError, DataDamagedError: as `opened_dataset`.
    """
    if _is_known(name, data_dir):
        loaded = datasets.load(name, data_dir, task=task or "classes")
        return _dataset(name, loaded, datasets.class_names(name), _augmentations(name))
    file = Path(name).expanduser()
    if array_files.is_array_data(file):
        return _dataset(file.stem, array_files.read(file, None, True, task or "classes"), None, {})
    try:
        objective = loader.load(name)
    except UnknownObjectiveError as exc:
        raise UsageError(
            f"unknown data set {name!r}: use one of {', '.join(datasets.SHIPPED)}, the name of a file"
            f" {data_dir}/<name>.npz, the path of a folder, a table or an .npz file, or an objective"
        ) from exc
    source = vars(objective).get("dataset", objective.dataset)
    classes = getattr(objective, "classes", None)
    augmentation = getattr(objective, "augmentation", None)
    task = task or getattr(objective, "task", "classes")
    assert task is not None
    if isinstance(source, staticmethod):
        source = source.__func__
    if source is None:
        raise UsageError(f"objective {name!r} has no data set: set its `dataset` to explore it")
    # The class name alone also serves as the folder name.
    name = name.rpartition(":")[2]
    used = {name: augmentation} if augmentation is not None else {}
    if callable(source):
        return _dataset(name, _called(source, task, classes), classes, used)
    loaded = datasets.load(source, data_dir, task=task, names=classes)
    return _dataset(source, loaded, classes or datasets.class_names(source), used)


def _called(function: object, task: TaskName, classes: tuple[str, ...] | None) -> Arrays:
    assert callable(function)
    try:
        return arrays.call(function, classes, test=True, task=task)
    except DataDamagedError:
        # There may be no test set, which only retraining needs; invalid data raises the error again.
        return arrays.call(function, classes, test=False, task=task)


def _augmentations(dataset: str | None) -> dict[str, Augmentation]:
    """Return the augmentations of the shipped objectives of a data set; None: of those for any images."""
    objectives = {name: loader.load(name) for name in loader.names()}
    found = {
        name: getattr(objective, "augmentation", None)
        for name, objective in objectives.items()
        if objective.dataset == dataset
    }
    return {name: augmentation for name, augmentation in found.items() if augmentation is not None}


def _dataset(
    name: str, loaded: Arrays, classes: tuple[str, ...] | None, augmentations: Mapping[str, Augmentation]
) -> Dataset:
    train, valid = split_indices(loaded.y_train, DataOptions(), loaded.y_valid, loaded.task, loaded.groups)
    return Dataset(
        name=name,
        title=datasets.SHIPPED[name].title if name in datasets.SHIPPED else "",
        data=split(replace(loaded, x_test=None, y_test=None), DataOptions(), final=False, classes=classes),
        x_test=loaded.x_test,
        y_test=loaded.y_test,
        indices={"training": train, "validation": valid},
        augmentations=augmentations,
    )
