"""Where the explored data are read from: a name, a file, a folder or table of images, or an objective."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from hpo.agent.image_data import image_cache
from hpo.errors import UnknownObjectiveError, UsageError
from hpo.explore.dataset import Dataset
from hpo.explore.image_files import image_files
from hpo.settings import Settings
from hpo.terminal.work_progress import WorkProgress
from objectives import loader
from objectives.augment import Augmentation
from objectives.base import DataOptions, Objective
from objectives.data import array_files, array_source, arrays, datasets, inputs
from objectives.data.arrays import Arrays
from objectives.data.shipped import SHIPPED
from objectives.data.splits import Data, split, split_indices, training_and_test
from objectives.data_options import TaskName
from objectives.images import entry, provision, tables
from objectives.images.listing import TITLES
from objectives.images.parallel import Watch
from objectives.keras_objective import KerasObjective


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
        yield load_dataset(name, settings.data_dir, options)
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
    if name in SHIPPED:
        return True
    is_name = Path(name).name == name
    return is_name and ((data_dir / f"{name}.npz").is_file() or array_files.is_array_data(data_dir / name))


def is_image_source(path: Path) -> bool:
    """Return whether a path is that of a folder or table of images."""
    if path.is_dir():
        return not array_files.is_array_data(path)
    return path.is_file() and path.suffix.lower() in tables.EXTENSIONS


@contextmanager
def images_in_use(path: Path, options: DataOptions, settings: Settings, watch: Watch) -> Iterator[Dataset]:
    """Read the images of a folder or table into the cache of this host, but for those that cannot be read."""
    source = path.absolute()
    options = replace(options, source=str(source), skip_unreadable=True, limit=None, folds=None)
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
        data = split(loaded, cached, final=False, classes=classes)
        files = image_files(survey)
        yield Dataset(
            name=source.stem if path.is_file() else source.name or "images",
            title="",
            data=data,
            x_test=tested.x_test,
            y_test=tested.y_test,
            indices={},
            paths={name: paths[ends[at] : ends[at + 1]] for at, name in enumerate(names)},
            files=files,
            made=[TITLES[split] for split in files.made],
            has_groups=bool(files.groups),
            augmentations=_augmentations(_shipped(None), data),
        )


def load_dataset(name: str, data_dir: Path, options: DataOptions | None = None) -> Dataset:
    """Load a data set of arrays: a shipped one, a file or folder, or that of an objective.

    The task of the options replaces its own, and arrays of a path are split as those of `hpo launch --data`.

    Raises:
        UsageError, DataMissingError, DataDamagedError: as `opened_dataset`.
    """
    options = options or DataOptions()
    if _is_known(name, data_dir):
        loaded = datasets.load(name, data_dir, task=options.task or "classes")
        return _dataset(
            name, loaded, replace(options, source=None), datasets.class_names(name), _shipped(name)
        )
    file = Path(name).expanduser()
    if array_files.is_array_data(file):
        options = replace(options, source=str(file.absolute()))
        loaded = array_source.loaded(options, options.task or "classes", None, final=True)
        return _dataset(file.stem, loaded, options, None, _shipped(None))
    try:
        objective = loader.load(name)
    except UnknownObjectiveError as exc:
        raise UsageError(
            f"unknown data set {name!r}: use one of {', '.join(SHIPPED)}, the name of a file"
            f" {data_dir}/<name>.npz, the path of a folder, a table or an .npz file, or an objective"
        ) from exc
    return _of_objective(name, objective, data_dir, options)


def _of_objective(name: str, objective: type[Objective], data_dir: Path, options: DataOptions) -> Dataset:
    source = vars(objective).get("dataset", objective.dataset)
    classes = getattr(objective, "classes", None)
    declared: TaskName = getattr(objective, "task", "classes")
    task = options.task or declared
    if isinstance(source, staticmethod):
        source = source.__func__
    if source is None:
        raise UsageError(f"objective {name!r} has no data set: set its `dataset` to explore it")
    options = replace(options, source=None)
    # The class name alone also serves as the folder name.
    name = name.rpartition(":")[2]
    if callable(source):
        called = arrays.call(source, classes, test=True, task=task)
        return _dataset(name, called, options, classes, {name: objective})
    loaded = datasets.load(source, data_dir, task=task, names=classes)
    return _dataset(source, loaded, options, classes or datasets.class_names(source), {name: objective})


def _shipped(dataset: str | None) -> dict[str, type[Objective]]:
    """Return the shipped objectives of a data set; None: those for any images."""
    objectives = {name: loader.load(name) for name in loader.names()}
    return {name: objective for name, objective in objectives.items() if objective.dataset == dataset}


def _augmentations(objectives: Mapping[str, type[Objective]], data: Data) -> dict[str, Augmentation]:
    if not inputs.is_images(data.x_train):
        return {}
    found = {
        name: objective().augment(data)
        for name, objective in objectives.items()
        if issubclass(objective, KerasObjective)
    }
    return {name: augmentation for name, augmentation in found.items() if augmentation is not None}


def _dataset(
    name: str,
    loaded: Arrays,
    options: DataOptions,
    classes: tuple[str, ...] | None,
    objectives: Mapping[str, type[Objective]],
) -> Dataset:
    options = replace(options, limit=None, folds=None)
    pool, held_out = training_and_test(loaded, options)
    groups = None if loaded.groups is None else loaded.groups[pool]
    train, valid = split_indices(loaded.y_train[pool], options, loaded.y_valid, loaded.task, groups)
    made = len(held_out) > 0
    data = split(replace(loaded, x_test=None, y_test=None), options, final=False, classes=classes)
    return Dataset(
        name=name,
        title=SHIPPED[name].title if name in SHIPPED else "",
        data=data,
        x_test=inputs.take(loaded.x_train, held_out) if made else loaded.x_test,
        y_test=loaded.y_train[held_out] if made else loaded.y_test,
        indices={
            "training": pool[train],
            "validation": valid if loaded.y_valid is not None else pool[valid],
            **({"test": held_out} if made else {}),
        },
        made=[*(["validation"] if loaded.y_valid is None else []), *(["test"] if made else [])],
        has_groups=loaded.groups is not None,
        augmentations=_augmentations(objectives, data),
    )
