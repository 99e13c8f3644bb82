"""Predictions of a loaded model for the inputs that a user names."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import BinaryIO

import numpy as np

from hpo.errors import HpoError, UsageError
from hpo.models.loading import Inputs, LoadedModel
from hpo.predict.batches import Batch, array_batches, check_rows, image_batches, read_arrays, with_channels
from hpo.predict.forms import Form, Outputs
from hpo.predict.sources import image_paths, is_array
from objectives.images.decoding import Geometry

_BATCH_VALUES = 1 << 22
"""Number of input values in a batch, unless its size is given: layers of a network hold some ten times as many."""
_LARGEST_BATCH = 256


@dataclass(frozen=True, kw_only=True)
class Predicted:
    """The predictions of one batch."""

    names: Sequence[str]
    """Path of each input; for arrays with the row, such as `x.npy[3]`."""
    outputs: Outputs
    unreadable: dict[str, str]
    """Reason by path of files that could not be read."""


def predictions(
    model: LoadedModel,
    form: Form,
    batches: Iterable[Batch],
    *,
    mirror: bool = False,
) -> Iterator[Predicted]:
    """Yield the predictions of each batch.

    With `mirror`, each is the mean of those of an image and of its mirror image.

    Raises:
        UsageError: the model does not take such inputs, or computes no number for one.
    """
    if mirror:
        _check_mirror(model)
    forward = model.forward()
    for batch in batches:
        outputs = np.zeros((0, model.outputs))
        if batch.names:
            outputs = _computed(forward, batch.inputs, batch.names)
            if mirror:
                outputs = form.mean(outputs, forward(_mirrored(batch.inputs)))
            _check_finite(outputs, batch.names)
        yield Predicted(names=batch.names, outputs=outputs, unreadable=dict(batch.unreadable))


def batches_of(
    model: LoadedModel, arguments: Iterable[str], listed: BinaryIO | None = None, size: int | None = None
) -> Iterator[Batch]:
    """Yield batches of image files, folders, tables and arrays, in their order, and of the list of paths `listed`.

    Raises:
        UsageError: the model does not take such inputs.
        DataMissingError, DataDamagedError: there are no such inputs, or they cannot be read.
    """
    size = size or batch_size(model)
    for arrays, group in groupby(arguments, is_array):
        if arrays:
            for argument in group:
                yield from rows_of(model, read_arrays(Path(argument)), argument, size)
        else:
            yield from image_batches(image_paths(group, listed), geometry(model), size)


def rows_of(model: LoadedModel, arrays: Inputs, place: str, size: int | None = None) -> Iterator[Batch]:
    """Yield batches of the rows of arrays, which `place` names.

    Raises:
        UsageError: they do not have the shape of the model's inputs.
        DataDamagedError: they have different lengths.
    """
    inputs = with_channels(arrays, model.shapes)
    check_rows(inputs, model.shapes, place)
    return array_batches(inputs, place, size or batch_size(model))


def geometry(model: LoadedModel) -> Geometry:
    """Return the shape and fit of the images that a model takes.

    Raises:
        UsageError: it takes other inputs than images of eight bits.
    """
    shapes = list(model.shapes.values())
    if len(shapes) == 1 and len(shapes[0]) == 3 and model.record.dtype() == "uint8":
        recorded = model.record.shape
        height, width, channels = recorded if recorded is not None and len(recorded) == 3 else shapes[0]
        if height and width and channels in (1, 3):
            return Geometry(height, width, channels, model.record.fit)
    taken = ", ".join(
        f"{name} of {model.record.dtype(name) or 'any type'} {shape}" for name, shape in model.shapes.items()
    )
    raise UsageError(
        f"the model takes no image files but the arrays of its objective ({taken}): give them as .npy or .npz files"
    )


def batch_size(model: LoadedModel) -> int:
    """Return the number of inputs in a batch, by the size of one."""
    values = sum(int(np.prod([side or 1 for side in shape])) for shape in model.shapes.values())
    return min(_LARGEST_BATCH, max(1, _BATCH_VALUES // max(1, values)))


def _computed(forward: Callable[[Inputs], Outputs], inputs: Inputs, names: Sequence[str]) -> Outputs:
    try:
        return forward(inputs)
    except HpoError:
        raise
    # Layers raise anything for inputs that they do not know, such as text for numbers.
    except Exception as exc:
        reason = " ".join(str(exc).split())[:300] or type(exc).__name__
        raise UsageError(
            f"the model cannot compute {names[0]} and those after it ({reason}): give inputs like those of its"
            " training, or fewer at a time with --batch-size"
        ) from exc


def _check_finite(outputs: Outputs, names: Sequence[str]) -> None:
    wrong = np.flatnonzero(~np.isfinite(outputs).all(axis=1))
    if len(wrong):
        value = next(value for value in outputs[wrong[0]] if not np.isfinite(value))
        raise UsageError(
            f"the model computes {value} for {names[wrong[0]]}: give it finite numbers like those of its training"
        )


def _check_mirror(model: LoadedModel) -> None:
    if [len(shape) for shape in model.shapes.values()] != [3]:
        raise UsageError("--mirror needs a model of images: leave it out")


def _mirrored(inputs: Inputs) -> Inputs:
    assert isinstance(inputs, np.ndarray)
    return np.ascontiguousarray(inputs[:, :, ::-1])
