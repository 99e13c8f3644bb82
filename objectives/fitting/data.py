"""The data of a `fit` that resumes: in the order that an uninterrupted one would go on with."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import keras

ARRAY_BATCH = 32
"""Number of examples in a batch of arrays, unless `fit` is given another; Keras' default."""


def build(model: keras.Model, x: Any) -> None:
    """Create the weights of a model that has no input shape yet, as `fit` would do with its first batch."""
    # A model whose `call` cannot be called so is left to `fit`.
    with suppress(Exception):
        if model.built or x is None:
            return
        if _is_dataset(x):
            inputs = keras.utils.unpack_x_y_sample_weight(next(iter(x)))[0]
        elif isinstance(x, keras.utils.PyDataset):
            inputs = keras.utils.unpack_x_y_sample_weight(x[0])[0]
        elif isinstance(x, types.GeneratorType):
            return
        else:
            inputs = keras.tree.map_structure(lambda array: array[:1], x)
        model(inputs)


def batch_size(x: Any, options: dict[str, Any]) -> int:
    """Return the number of examples in a batch; 0 if only the data knows it."""
    flat = keras.tree.flatten(x)
    return int(options.get("batch_size") or ARRAY_BATCH) if flat and hasattr(flat[0], "shape") else 0


def ordered(
    x: Any, completed: int, seed: Callable[[int], None], options: dict[str, Any], model: keras.Model
) -> tuple[Any, bool]:
    """Return the data from the epoch after the completed ones, and whether its order is that of a whole run.

    `seed` seeds the random numbers of an epoch; 0 stands for the time before the first. Changes `options`.
    """
    steps = options.get("steps_per_epoch")
    if _is_dataset(x):
        return _ordered_dataset(x, completed, options, model)
    if isinstance(x, keras.utils.PyDataset):
        # Also called by `fit` before its first epoch.
        for epoch in range(completed):
            seed(epoch)
            x.on_epoch_end()
        seed(completed)
        return x, not (completed and steps)
    if isinstance(x, types.GeneratorType):
        for _ in range(completed * int(steps or 0)):
            next(x, None)
        return x, not completed or steps is not None
    # Arrays start again in each epoch, unless only a part of them is one.
    return x, not (completed and steps)


def _is_dataset(x: Any) -> bool:
    return "tensorflow" in sys.modules and isinstance(x, sys.modules["tensorflow"].data.Dataset)


def _ordered_dataset(x: Any, completed: int, options: dict[str, Any], model: keras.Model) -> tuple[Any, bool]:
    """Return a tf.data.Dataset from the epoch after the completed ones.

    One of known length becomes endless, with steps for each epoch: how often Keras iterates again, which shuffles
    again, differs from version to version.
    """
    if steps := options.get("steps_per_epoch"):
        # Other backends take a batch to build the losses, and so shuffle once more than a whole run does.
        exact = not completed or keras.config.backend() == "tensorflow"
        return (x.repeat().skip(completed * int(steps)) if completed else x), exact
    length = int(x.cardinality())
    if length <= 0 or getattr(model, "steps_per_execution", 1) != 1:
        return x, not completed
    for _ in range(completed):
        # A new order is drawn without reading the data.
        iter(x)
    options["steps_per_epoch"] = length
    return x.repeat(), True
