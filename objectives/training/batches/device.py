"""Batches of training examples that are augmented on a GPU, and gathered there if all examples fit.

A GPU would have to wait for the host: NumPy augments a few thousand CIFAR-10 images per second and core, and a GPU
trains on tens of thousands. So the images lie on the device as uint8, and only the random draws are transferred: for
each image its index, a bit, an angle, two offsets and a position to cut out. Images that do not fit are streamed: those
of each batch are transferred next to its draws. All ways draw from the same generators, so that a batch is the same as
on the host, up to the rounding of a rotated pixel.
"""

from __future__ import annotations

import math
import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from objectives import backend
from objectives.augment import Changes, Progress
from objectives.augment.mixing import Mixtures, packed
from objectives.backend.base import Batch
from objectives.data.inputs import each
from objectives.data.read_ahead import read_ahead, release
from objectives.training.batches.host import FIRST, Advance, Variation, named, targets_of

if TYPE_CHECKING:
    from objectives.data.splits import Data

STREAMED_BYTES = 2**26
"""Largest size of the examples that are transferred at a time, unless one batch is larger."""

_MIXTURE = "mixed_"
"""Prefix of the names of mixtures among those of changes."""

_uploaded: dict[int, list[Any]] = {}
"""Arrays on the device by the identity of their data, which all runs and lanes of a process share."""
_uploading = threading.Lock()


def resident(model: keras.Model, data: Data, variation: Variation) -> Advance:
    """Train on examples that are copied to the device here and stay there.

    Raises:
        Exception: the framework finds no memory for them.
    """
    on_device = upload(data)
    count = len(on_device)

    def examples(parts: Sequence[Any]) -> tuple[list[Any], Sequence[Any]]:
        return [ops.take(array, parts[count], axis=0) for array in parts[:count]], parts[count + 1 :]

    steps = backend.current().training_steps(
        model, targets_of(data, variation), _batch(data, variation, examples), on_device
    )

    def advance(
        chosen: NDArray[np.int64], generators: Sequence[np.random.Generator], progress: Progress = FIRST
    ) -> Mapping[str, float]:
        return steps((chosen.astype(np.int32), *_stacked(variation, chosen, generators, progress)))

    return advance


def streamed(model: keras.Model, data: Data, variation: Variation) -> Advance:
    """Train on examples of the host's memory or of files; those of a few batches are transferred at a time."""
    arrays = [*each(data.x_train).values(), data.y_train]
    requests = [request for request in map(read_ahead, arrays) if request is not None]
    count = len(arrays)

    def examples(parts: Sequence[Any]) -> tuple[list[Any], Sequence[Any]]:
        return list(parts[:count]), parts[count:]

    steps = backend.current().training_steps(
        model, targets_of(data, variation), _batch(data, variation, examples)
    )
    bytes_of_row = sum(array.nbytes // max(1, len(array)) for array in arrays)

    def rows(chosen: NDArray[np.int64]) -> Sequence[NDArray[Any]]:
        for request in requests:
            request(chosen)
        found = [array[chosen] for array in arrays]
        for array in arrays:
            release(array)
        return found

    def advance(
        chosen: NDArray[np.int64], generators: Sequence[np.random.Generator], progress: Progress = FIRST
    ) -> Mapping[str, float]:
        size = max(1, STREAMED_BYTES // max(1, chosen.shape[1] * bytes_of_row))
        found: Mapping[str, float] = {}
        for start in range(0, len(chosen), size):
            part = slice(start, start + size)
            changes = _stacked(variation, chosen[part], generators[part], progress)
            # Metrics cover all batches since the last reset.
            found = steps((*rows(chosen[part]), *changes))
        return found

    return advance


def upload(data: Data) -> list[Any]:
    """Return inputs and targets on the device; runs of one process on the same data share them."""
    with _uploading:
        if id(data) not in _uploaded:
            arrays = (*each(data.x_train).values(), data.y_train)
            _uploaded[id(data)] = [ops.convert_to_tensor(array) for array in arrays]
            weakref.finalize(data, _uploaded.pop, id(data), None)
        return _uploaded[id(data)]


def bytes_of(data: Data) -> int:
    """Return the size of the training examples on the device."""
    arrays = (*each(data.x_train).values(), data.y_train)
    # Keras converts numbers of 64 bits.
    return sum(math.prod(array.shape) * min(array.dtype.itemsize, 8) for array in arrays)


def _batch(
    data: Data, variation: Variation, examples: Callable[[Sequence[Any]], tuple[list[Any], Sequence[Any]]]
) -> Batch:
    """Return a function that makes inputs and targets of a batch from the arguments of a step.

    `examples` finds the examples of the batch in these arguments, and returns the others, which are the changes.
    """
    names, augmentation = named(data.x_train), variation.augmentation
    kinds = tuple(_drawn(variation, np.zeros(1, np.int64), np.random.default_rng(0), FIRST))

    def batch(*parts: Any) -> tuple[Any, Any]:
        found, drawn = examples(parts)
        changes = dict(zip(kinds, drawn, strict=True))
        mixtures = {name: changes.pop(name) for name in kinds if name.startswith(_MIXTURE)}
        if augmentation is not None:
            found[0] = augmentation.apply(found[0], Changes(**changes))
        if mixtures:
            given = Mixtures(**{name.removeprefix(_MIXTURE): value for name, value in mixtures.items()})
            found[0], shares = given.inputs(found[0])
            found[-1] = packed(found[-1], given.partners, shares)
        return names(*found) if names is not None else (found[0], found[1])

    return batch


def _stacked(
    variation: Variation,
    chosen: NDArray[np.int64],
    generators: Sequence[np.random.Generator],
    progress: Progress,
) -> list[NDArray[Any]]:
    """Draw the changes of k batches, each kind in one array."""
    every = [_drawn(variation, rows, rng, progress) for rows, rng in zip(chosen, generators, strict=True)]
    stacked = [np.stack([one[kind] for one in every]) for kind in every[0]]
    return [array.astype(np.int32) if array.dtype == np.int64 else array for array in stacked]


def _drawn(
    variation: Variation, rows: NDArray[np.int64], rng: np.random.Generator, progress: Progress
) -> dict[str, NDArray[Any]]:
    """Draw the changes of a batch, by name: in each epoch the same names, because a graph needs all of them."""
    found: dict[str, Any] = {}
    augmentation, now = variation.augmentation, variation.during(progress)
    if augmentation is not None and now is not None:
        drawn = dict(vars(now.draw(len(rows), rng)))
        if variation.alternation is not None:
            drawn["mirror"] = variation.alternation.mirrored(rows, progress.epoch)
        faded = now is not augmentation
        wanted = vars(augmentation.draw(len(rows), np.random.default_rng(0))) if faded else drawn
        found = {
            name: np.zeros_like(value) if drawn[name] is None else drawn[name]
            for name, value in wanted.items()
            if value is not None
        }
    mixtures = variation.mixtures(len(rows), rng, progress)
    if mixtures is not None:
        found |= {_MIXTURE + name: value for name, value in vars(mixtures).items() if value is not None}
    return found
