"""Batches of training images: made by NumPy on the host, or, on a GPU, gathered and augmented on the device.

A GPU would have to wait for the host: NumPy augments a few thousand CIFAR-10 images per second and core, and a GPU
trains on tens of thousands. So the images lie on the device as uint8, and only the random draws are transferred: for
each image its index, a bit, an angle, two offsets and a position to cut out. Both ways draw from the same generators,
so that a batch is the same up to the rounding of a rotated pixel.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from objectives import backend
from objectives.augment import Augmentation, Changes

if TYPE_CHECKING:
    from objectives.base import Device
    from objectives.data.splits import Data

Advance = Callable[[NDArray[np.int64], Sequence[np.random.Generator]], dict[str, float]]
"""Function that trains on k batches, given the indices of their images (k, batch) and a generator for each batch's
augmentation; returns the model's metrics since its last `reset_metrics()`."""


def advancing(model: keras.Model, data: Data, augmentation: Augmentation | None, device: Device) -> Advance:
    """Return the function that trains a compiled model on this device."""
    # A user's own subclass of Augmentation can only be called, on the host.
    on_device = device.gpu is not None and type(augmentation) in (Augmentation, type(None))
    return resident(model, data, augmentation) if on_device else hosted(model, data, augmentation)


def hosted(model: keras.Model, data: Data, augmentation: Augmentation | None) -> Advance:
    """Train on batches that are made in the host's memory."""
    steps = backend.training_steps(model)

    def advance(chosen: NDArray[np.int64], generators: Sequence[np.random.Generator]) -> dict[str, float]:
        images = data.x_train[chosen]
        if augmentation is not None:
            for batch, rng in zip(images, generators, strict=True):
                batch[:] = augmentation(batch, rng)
        return steps((images, data.y_train[chosen]))

    return advance


def resident(model: keras.Model, data: Data, augmentation: Augmentation | None) -> Advance:
    """Train on images that are copied to the device here and stay there."""
    on_device = [ops.convert_to_tensor(array) for array in (data.x_train, data.y_train)]

    def batch(pixels: Any, labels: Any, index: Any, *changes: Any) -> tuple[Any, Any]:
        images = ops.take(pixels, index, axis=0)
        if augmentation is not None:
            images = changed(images, augmentation, dict(zip(kinds, changes, strict=True)))
        return images, ops.take(labels, index, axis=0)

    kinds: tuple[str, ...] = ()
    if augmentation is not None:
        drawn = vars(augmentation.draw(1, np.random.default_rng(0)))
        kinds = tuple(name for name, value in drawn.items() if value is not None)
    steps = backend.training_steps(model, batch, on_device)

    def advance(chosen: NDArray[np.int64], generators: Sequence[np.random.Generator]) -> dict[str, float]:
        every: list[Changes] = []
        if augmentation is not None:
            every = [augmentation.draw(chosen.shape[1], rng) for rng in generators]
        stacked = [np.stack([getattr(one, kind) for one in every]) for kind in kinds]
        small = [array.astype(np.int32) if array.dtype == np.int64 else array for array in stacked]
        return steps((chosen.astype(np.int32), *small))

    return advance


def changed(images: Any, augmentation: Augmentation, given: Mapping[str, Any]) -> Any:
    """Augment images (n, height, width, channels) in the backend's operations, as `Augmentation` does in NumPy.

    `given` are the fields of `Changes` that are not None.
    """
    fill = augmentation.fill
    if "mirror" in given:
        images = ops.where(given["mirror"][:, None, None, None], ops.flip(images, axis=2), images)
    if "angles" in given:
        images = _rotated(images, given["angles"], fill)
    if "offsets" in given:
        images = _shifted(images, given["offsets"], fill)
    if "places" in given:
        images = _cut_out(images, given["places"], augmentation.cutout, fill)
    return images


def _cut_out(images: Any, places: Any, side: int, fill: int) -> Any:
    """Do the same as `objectives.augment.cut_out`."""
    hidden = []
    for size, place in zip(images.shape[1:3], (places[0], places[1]), strict=True):
        first = ops.cast(place * float(max(size - side, 0) + 1), "int32")[:, None]
        line = ops.arange(size, dtype="int32")
        hidden.append((line >= first) & (line < first + side))
    inside = hidden[0][:, :, None] & hidden[1][:, None, :]
    return ops.where(inside[..., None], ops.cast(fill, images.dtype), images)


def _shifted(images: Any, offsets: Any, fill: int) -> Any:
    offsets = ops.cast(offsets, "int32")
    _, height, width, _ = images.shape
    rows = (offsets[0][:, None] + ops.arange(height, dtype="int32"))[:, :, None]
    columns = (offsets[1][:, None] + ops.arange(width, dtype="int32"))[:, None, :]
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    moved = _taken(images, ops.clip(rows, 0, height - 1), ops.clip(columns, 0, width - 1))
    return ops.where(inside[..., None], moved, ops.cast(fill, images.dtype))


def _rotated(images: Any, angles: Any, fill: int) -> Any:
    """Do the same as `objectives.augment.rotated`."""
    height, width = images.shape[1:3]
    y = (ops.arange(height, dtype="float32") - (height - 1) / 2)[None, :, None]
    x = (ops.arange(width, dtype="float32") - (width - 1) / 2)[None, None, :]
    cos, sin = ops.cos(angles)[:, None, None], ops.sin(angles)[:, None, None]
    # A margin of one pixel represents everything outside; coordinates are clipped into it.
    rows = ops.clip(cos * y - sin * x + (height - 1) / 2 + 1, 0, height + 1)
    columns = ops.clip(sin * y + cos * x + (width - 1) / 2 + 1, 0, width + 1)
    padded = ops.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=fill)
    top = ops.minimum(ops.cast(rows, "int32"), height)
    left = ops.minimum(ops.cast(columns, "int32"), width)
    down = (rows - ops.cast(top, "float32"))[..., None]
    right = (columns - ops.cast(left, "float32"))[..., None]
    corners = [
        ops.cast(_taken(padded, top + below, left + beside), "float32")
        for below in (0, 1)
        for beside in (0, 1)
    ]
    above = corners[0] * (1 - right) + corners[1] * right
    below = corners[2] * (1 - right) + corners[3] * right
    return ops.cast(ops.round(above * (1 - down) + below * down), images.dtype)


def _taken(images: Any, rows: Any, columns: Any) -> Any:
    """Return the pixels of each image at its integer rows and columns, both (n, …)."""
    count, height, width, channels = images.shape
    first = ops.arange(count, dtype="int32")[:, None, None] * height
    return ops.take(
        ops.reshape(images, (count * height * width, channels)), (first + rows) * width + columns, axis=0
    )
