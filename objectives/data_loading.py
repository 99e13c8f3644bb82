"""The data of an objective: a data set by name, the result of a function, or those of a study (`--data`)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from hpo.errors import DataDamagedError, ObjectiveBrokenError
from objectives.data import array_files, array_source, arrays, datasets
from objectives.data.arrays import Arrays
from objectives.data.splits import Data, split
from objectives.data_options import DataOptions, TaskName
from objectives.images import provision


def load_data(
    source: str | Callable[[], Any] | None,
    classes: Sequence[str] | None,
    options: DataOptions,
    final: bool,
    task: TaskName = "classes",
) -> Data:
    """Return an objective's data, split; starts no backend, so that trainers can be forked afterwards.

    `classes` are declared names of classes, labels or targets.

    Raises:
        ObjectiveBrokenError: `source` is neither a name nor a function, and the options name no data.
        DataMissingError: the data set is not on this machine.
        DataDamagedError: the data set is invalid.
    """
    names = tuple(classes) if classes is not None else None
    folder = None if options.cache_dir is None else Path(options.cache_dir)
    if isinstance(source, str):
        loaded = datasets.load(source, options.data_dir, final, task=task, names=names, folder=folder)
    elif callable(source):
        loaded = arrays.call(source, names, final, task, folder, options.split_seed)
    elif options.source is None:
        raise ObjectiveBrokenError(
            "dataset must be the name of a data set or a function that returns arrays, or data are given with --data"
        )
    elif array_files.is_array_data(Path(options.source)):
        loaded = array_source.loaded(options, task, names, final)
    else:
        loaded, found = provision.mapped(options, final)
        loaded = _for_task(loaded, task, options)
        # Other names in the order of the classes; the same names in another order would be those of other classes.
        renamed = names is not None and len(names) == len(found) and set(names) != set(found)
        names = names if renamed else found
    return split(loaded, options, final, names)


def _for_task(loaded: Arrays, task: TaskName, options: DataOptions) -> Arrays:
    """Return images for the objective's task, which their source was read without, unless it was given with --task.

    Raises:
        UsageError, DataMissingError, DataDamagedError: they must be read for that task, and can be or not.
    """
    if loaded.task == task:
        return loaded
    # Two classes have the same numbers in both tasks.
    if {loaded.task, task} == {"classes", "binary"} and len(loaded.classes or ()) == 2:
        return replace(loaded, task=task)
    # Raises the refusal that --task would lead to, so that it is not the second one.
    provision.read(replace(options, task=task))
    raise DataDamagedError(
        f"{options.source} was read for task {loaded.task}, and the objective's task is {task}: add --task {task}"
    )
