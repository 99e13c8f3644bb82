"""Augmentation of training images: flip, rotation, shift and cutout, in NumPy or in the backend's operations.

Keras' layers do the same inside the model, but then every checkpoint and the exported model must hold their random
state. Here the changes of a batch depend only on its generator, so that an interrupted epoch is repeated exactly, on
any backend.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from objectives.data.arrays import Images

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Augmentation:
    """Random changes to each training image, drawn again every epoch."""

    flip: bool = False
    """Whether half of the images are mirrored left to right; not for digits or letters."""
    shift: int = 0
    """Largest shift in pixels in each direction; pixels from outside the image are `fill`."""
    rotation_degrees: float = 0.0
    """Largest rotation about the centre in degrees, either way."""
    rotated_share: float = 1.0
    """Share of the images that are rotated. Rotated images are interpolated and so less sharp than test images; a model
    should see both."""
    cutout: int = 0
    """Side in pixels of a square, anywhere in the image, that becomes `fill`, so that a model does not depend on one
    part of an object. DeVries and Taylor, "Improved regularization of convolutional neural networks with cutout"
    (2017), but the square always lies inside the image."""
    fill: float = 0
    """Pixel value outside the image and in the cut-out square; the images' mean stands out least."""

    def draw(self, count: int, rng: np.random.Generator) -> Changes:
        """Draw the changes of `count` images."""
        return Changes(
            mirror=rng.random(count) < 0.5 if self.flip else None,
            angles=self._angles(count, rng) if self.rotation_degrees else None,
            offsets=rng.integers(0, 2 * self.shift + 1, (2, count)) - self.shift if self.shift else None,
            places=rng.random((2, count), np.float32) if self.cutout else None,
        )

    def _angles(self, count: int, rng: np.random.Generator) -> Floats:
        degrees = rng.uniform(-self.rotation_degrees, self.rotation_degrees, count)
        if self.rotated_share < 1.0:
            degrees[rng.random(count) >= self.rotated_share] = 0.0
        return np.deg2rad(degrees).astype(np.float32)

    def __call__(self, images: Images, rng: np.random.Generator) -> Images:
        """Return changed copies of a batch (n, height, width, channels) of pixels of any type."""
        changed: Images = self.apply(images, self.draw(len(images), rng))
        return changed

    def apply(self, images: Any, changes: Changes) -> Any:
        """Return the images (n, height, width, channels), changed; both in NumPy arrays or in the backend's tensors."""
        if changes.mirror is not None:
            images = flipped(images, changes.mirror)
        if changes.angles is not None:
            images = rotated(images, changes.angles, self.fill)
        if changes.offsets is not None:
            images = shifted(images, changes.offsets, self.fill, self.shift)
        if changes.places is not None:
            images = cut_out(images, changes.places, self.cutout, self.fill)
        return images


CIFAR10 = Augmentation(flip=True, shift=4, rotation_degrees=8, rotated_share=0.25, cutout=8, fill=121)
"""Augmentation of CIFAR-10 in the shipped objectives; its mean pixel is 121."""


@dataclass(frozen=True)
class Changes:
    """Changes of each image of a batch of n, in the order in which they are made; None: no such change."""

    mirror: NDArray[np.bool_] | None = None
    """Whether each image is mirrored (n,)."""
    angles: Floats | None = None
    """Rotation of each image in radians (n,)."""
    offsets: NDArray[np.int64] | None = None
    """Shift of each image (2, n): each pixel comes from so many pixels further down and right."""
    places: Floats | None = None
    """Position of each cut-out square (2, n), from 0 (top, left) to 1 (bottom, right)."""


def flipped(images: Any, mirror: Any) -> Any:
    """Return the images, mirrored left to right where `mirror` (n,) is true."""
    ops = _operations(images)
    return ops.where(mirror[:, None, None, None], ops.flip(images, axis=2), images)


def shifted(images: Any, offsets: Any, fill: float, most: int | None = None) -> Any:
    """Return the images, shifted: each pixel comes from `offsets` (2, n) pixels further down and right.

    `most` is the largest distance in pixels; a tensor cannot be asked for it.
    """
    ops = _operations(images)
    most = int(np.abs(offsets).max(initial=0)) if most is None else most
    padded = ops.pad(images, ((0, 0), (most, most), (most, most), (0, 0)), constant_values=fill)
    rows, columns = (
        _cast(offsets[axis], "int32")[:, None] + most + ops.arange(size, dtype="int32")
        for axis, size in enumerate(images.shape[1:3])
    )
    pixels, index = _flat(padded, rows[:, :, None], columns[:, None, :])
    return ops.take(pixels, index, axis=0)


def cut_out(images: Any, places: Any, side: int, fill: float) -> Any:
    """Return the images with a square of `side` pixels, or all of it, set to `fill` at `places` (2, n) in 0..1."""
    ops = _operations(images)
    hidden = []
    for axis, size in enumerate(images.shape[1:3]):
        first = _cast(places[axis] * float(max(size - side, 0) + 1), "int32")[:, None]
        line = ops.arange(size, dtype="int32")
        hidden.append((line >= first) & (line < first + side))
    inside = hidden[0][:, :, None] & hidden[1][:, None, :]
    return ops.where(inside[..., None], ops.full((), fill, images.dtype), images)


def rotated(images: Any, angles: Any, fill: float) -> Any:
    """Return the images, rotated about their centres by `angles` (n,) in radians, interpolated bilinearly.

    Whole-number pixels are rounded.
    """
    ops = _operations(images)
    if isinstance(images, np.ndarray) and not np.all(angles):
        # The others stay as they are, so that they need not be computed.
        turned = images.copy()
        turned[angles != 0] = rotated(images[angles != 0], angles[angles != 0], fill)
        return turned
    height, width = images.shape[1:3]
    y = (ops.arange(height, dtype="float32") - (height - 1) / 2)[None, :, None]
    x = (ops.arange(width, dtype="float32") - (width - 1) / 2)[None, None, :]
    cos, sin = ops.cos(angles)[:, None, None], ops.sin(angles)[:, None, None]
    # A margin of one pixel represents everything outside; coordinates are clipped into it.
    padded = ops.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=fill)
    rows = ops.clip(cos * y - sin * x + (height - 1) / 2 + 1, 0, height + 1)
    columns = ops.clip(sin * y + cos * x + (width - 1) / 2 + 1, 0, width + 1)
    top = ops.minimum(_cast(rows, "int32"), height)
    left = ops.minimum(_cast(columns, "int32"), width)
    down = (rows - _cast(top, "float32"))[..., None]
    right = (columns - _cast(left, "float32"))[..., None]
    pixels, corner = _flat(padded, top, left)
    corners = [
        _cast(ops.take(pixels, corner + step, axis=0), "float32") for step in (0, 1, width + 2, width + 3)
    ]
    above = corners[0] * (1 - right) + corners[1] * right
    below = corners[2] * (1 - right) + corners[3] * right
    between = above * (1 - down) + below * down
    return _cast(between if _is_float(images) else ops.round(between), images.dtype)


def _flat(images: Any, rows: Any, columns: Any) -> tuple[Any, Any]:
    """Return the pixels of all images (pixels, channels), and the indices in it of rows and columns, both (n, …)."""
    ops = _operations(images)
    count, height, width, channels = images.shape
    first = ops.arange(count, dtype="int32")[:, None, None] * height
    return ops.reshape(images, (count * height * width, channels)), (first + rows) * width + columns


def _operations(images: Any) -> Any:
    """Return the module of operations on arrays or tensors; Keras' have the names that NumPy's have."""
    if isinstance(images, np.ndarray):
        return np
    from keras import ops

    return ops


def _is_float(images: Any) -> bool:
    return "float" in str(images.dtype)


def _cast(values: Any, dtype: Any) -> Any:
    return values.astype(dtype) if isinstance(values, np.ndarray) else _operations(values).cast(values, dtype)
