"""Batches of training examples: made by NumPy on the host, or, on a GPU, gathered and augmented on the device.

A GPU would have to wait for the host: NumPy augments a few thousand CIFAR-10 images per second and core, and a GPU
trains on tens of thousands. So the images lie on the device as uint8, and only the random draws are transferred: for
each image its index, a bit, an angle, two offsets and a position to cut out. Both ways draw from the same generators,
so that a batch is the same up to the rounding of a rotated pixel.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from objectives import backend
from objectives.augment import Augmentation, Changes
from objectives.backend.base import Batch
from objectives.data.inputs import Inputs, each
from objectives.data.read_ahead import read_ahead, release

if TYPE_CHECKING:
    from objectives.data.splits import Data
    from objectives.device import Device

Advance = Callable[[NDArray[np.int64], Sequence[np.random.Generator]], dict[str, float]]
"""Function that trains on k batches, given the indices of their images (k, batch) and a generator for each batch's
augmentation; returns the model's metrics since its last `reset_metrics()`."""


def advancing(model: keras.Model, data: Data, augmentation: Augmentation | None, device: Device) -> Advance:
    """Return the function that trains a compiled model on this device."""
    # A user's own subclass of Augmentation can only be called, on the host, where strings are too.
    known = type(augmentation) in (Augmentation, type(None))
    on_device = device.gpu is not None and known and not has_text(data.x_train)
    return resident(model, data, augmentation) if on_device else hosted(model, data, augmentation)


def has_text(inputs: Inputs) -> bool:
    """Return whether an input holds strings."""
    return any(array.dtype.kind == "U" for array in each(inputs).values())


def hosted(model: keras.Model, data: Data, augmentation: Augmentation | None) -> Advance:
    """Train on batches that are made in the host's memory."""
    arrays = each(data.x_train)
    steps = backend.current().training_steps(model, data.y_train, _named(data.x_train))
    requests = [request for request in map(read_ahead, arrays.values()) if request is not None]

    def advance(chosen: NDArray[np.int64], generators: Sequence[np.random.Generator]) -> dict[str, float]:
        for request in requests:
            request(chosen)
        inputs = [array[chosen] for array in arrays.values()]
        for array in arrays.values():
            release(array)
        if augmentation is not None:
            for batch, rng in zip(inputs[0], generators, strict=True):
                batch[:] = augmentation(batch, rng)
        return steps((*inputs, data.y_train[chosen]))

    return advance


def _named(inputs: Inputs) -> Batch | None:
    """Return a function that names the arrays of a batch of several inputs; None for one input."""
    if not isinstance(inputs, dict):
        return None
    names = list(inputs)
    return lambda *parts: (dict(zip(names, parts[:-1], strict=True)), parts[-1])


def resident(model: keras.Model, data: Data, augmentation: Augmentation | None) -> Advance:
    """Train on examples that are copied to the device here and stay there."""
    arrays = each(data.x_train)
    on_device = [ops.convert_to_tensor(array) for array in (*arrays.values(), data.y_train)]
    named = _named(data.x_train)

    def batch(*parts: Any) -> tuple[Any, Any]:
        index, changes = parts[len(on_device)], parts[len(on_device) + 1 :]
        found = [ops.take(array, index, axis=0) for array in parts[: len(on_device)]]
        if augmentation is not None:
            found[0] = augmentation.apply(found[0], Changes(**dict(zip(kinds, changes, strict=True))))
        return named(*found) if named is not None else (found[0], found[1])

    kinds: tuple[str, ...] = ()
    if augmentation is not None:
        drawn = vars(augmentation.draw(1, np.random.default_rng(0)))
        kinds = tuple(name for name, value in drawn.items() if value is not None)
    steps = backend.current().training_steps(model, data.y_train, batch, on_device)

    def advance(chosen: NDArray[np.int64], generators: Sequence[np.random.Generator]) -> dict[str, float]:
        every: list[Changes] = []
        if augmentation is not None:
            every = [augmentation.draw(chosen.shape[1], rng) for rng in generators]
        stacked = [np.stack([getattr(one, kind) for one in every]) for kind in kinds]
        small = [array.astype(np.int32) if array.dtype == np.int64 else array for array in stacked]
        return steps((chosen.astype(np.int32), *small))

    return advance
