"""Changes to the pixels of images, on NumPy arrays or on the backend's tensors."""

from __future__ import annotations

from typing import Any

import numpy as np


def flipped(images: Any, mirror: Any) -> Any:
    """Return the images, mirrored left to right where `mirror` (n,) is true."""
    ops = operations(images)
    return ops.where(mirror[:, None, None, None], ops.flip(images, axis=2), images)


def shifted(images: Any, offsets: Any, fill: float, most: int | None = None) -> Any:
    """Return the images, shifted: each pixel comes from `offsets` (2, n) pixels further down and right.

    `most` is the largest distance in pixels; a tensor cannot be asked for it.
    """
    ops = operations(images)
    most = int(np.abs(offsets).max(initial=0)) if most is None else most
    padded = ops.pad(images, ((0, 0), (most, most), (most, most), (0, 0)), constant_values=fill)
    rows, columns = (
        cast(offsets[axis], "int32")[:, None] + most + ops.arange(size, dtype="int32")
        for axis, size in enumerate(images.shape[1:3])
    )
    pixels, index = _flat(padded, rows[:, :, None], columns[:, None, :])
    return ops.take(pixels, index, axis=0)


def cut_out(images: Any, places: Any, side: Any, fill: float) -> Any:
    """Return the images with a square set to `fill`, at `places` (2, n) in 0..1, of `side` pixels or less.

    `side` is a number, or one for each image (n,).
    """
    sides = np.atleast_1d(side) if isinstance(side, int) else side
    return operations(images).where(
        in_square(images, places, sides), operations(images).full((), fill, images.dtype), images
    )


def in_square(images: Any, places: Any, sides: Any) -> Any:
    """Return whether each pixel (n, height, width, 1) lies in its image's square, given as to `cut_out`."""
    ops = operations(images)
    sides, inside = cast(sides, "int32"), []
    for axis, size in enumerate(images.shape[1:3]):
        spare = cast(ops.maximum(size - sides, 0) + 1, "float32")
        first = cast(places[axis] * spare, "int32")[:, None]
        line = ops.arange(size, dtype="int32")
        inside.append((line >= first) & (line < first + sides[:, None]))
    return (inside[0][:, :, None] & inside[1][:, None, :])[..., None]


def rotated(images: Any, angles: Any, fill: float) -> Any:
    """Return the images, rotated about their centres by `angles` (n,) in radians, interpolated bilinearly.

    Whole-number pixels are rounded.
    """
    ops = operations(images)
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
    top = ops.minimum(cast(rows, "int32"), height)
    left = ops.minimum(cast(columns, "int32"), width)
    down = (rows - cast(top, "float32"))[..., None]
    right = (columns - cast(left, "float32"))[..., None]
    pixels, corner = _flat(padded, top, left)
    corners = [
        cast(ops.take(pixels, corner + step, axis=0), "float32") for step in (0, 1, width + 2, width + 3)
    ]
    above = corners[0] * (1 - right) + corners[1] * right
    below = corners[2] * (1 - right) + corners[3] * right
    between = above * (1 - down) + below * down
    return cast(between if is_float(images) else ops.round(between), images.dtype)


def _flat(images: Any, rows: Any, columns: Any) -> tuple[Any, Any]:
    """Return the pixels of all images (pixels, channels), and the indices in it of rows and columns, both (n, …)."""
    ops = operations(images)
    count, height, width, channels = images.shape
    first = ops.arange(count, dtype="int32")[:, None, None] * height
    return ops.reshape(images, (count * height * width, channels)), (first + rows) * width + columns


def operations(images: Any) -> Any:
    """Return the module of operations on arrays or tensors; Keras' have the names that NumPy's have."""
    if isinstance(images, np.ndarray):
        return np
    from keras import ops

    return ops


def is_float(images: Any) -> bool:
    return "float" in str(images.dtype)


def cast(values: Any, dtype: Any) -> Any:
    return values.astype(dtype) if isinstance(values, np.ndarray) else operations(values).cast(values, dtype)
