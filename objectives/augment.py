"""Augmentation of training images in NumPy: flip, rotation, shift and cutout.

Keras' layers do the same inside the model, but then every checkpoint and the exported model must hold their random
state. Here the changes of a batch depend only on its generator, so that an interrupted epoch is repeated exactly, on
any backend.
"""

from __future__ import annotations

from dataclasses import dataclass

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
    fill: int = 0
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
        """Return changed copies of a uint8 batch (n, height, width, channels)."""
        changes = self.draw(len(images), rng)
        if changes.mirror is not None:
            images = flipped(images, changes.mirror)
        if changes.angles is not None:
            images = rotated(images, changes.angles, self.fill)
        if changes.offsets is not None:
            images = shifted(images, changes.offsets, self.fill)
        if changes.places is not None:
            images = cut_out(images, changes.places, self.cutout, self.fill)
        return images


CIFAR10 = Augmentation(flip=True, shift=4, rotation_degrees=8, rotated_share=0.25, cutout=8, fill=121)
"""Augmentation of CIFAR-10 in the shipped objectives; its mean pixel is 121."""


@dataclass(frozen=True)
class Changes:
    """Changes of each image of a batch of n, in the order in which they are made; None: no such change."""

    mirror: NDArray[np.bool_] | None
    """Whether each image is mirrored (n,)."""
    angles: Floats | None
    """Rotation of each image in radians (n,)."""
    offsets: NDArray[np.int64] | None
    """Shift of each image (2, n): each pixel comes from so many pixels further down and right."""
    places: Floats | None
    """Position of each cut-out square (2, n), from 0 (top, left) to 1 (bottom, right)."""


def flipped(images: Images, mirror: NDArray[np.bool_]) -> Images:
    """Return the images, mirrored left to right where `mirror` (n,) is true."""
    return np.where(mirror[:, None, None, None], images[:, :, ::-1], images)


def shifted(images: Images, offsets: NDArray[np.int64], fill: int) -> Images:
    """Return the images, shifted: each pixel comes from `offsets` (2, n) pixels further down and right."""
    count, height, width, _ = images.shape
    most = int(np.abs(offsets).max(initial=0))
    padded = np.pad(images, ((0, 0), (most, most), (most, most), (0, 0)), constant_values=fill)
    rows, columns = (
        offsets[0, :, None] + most + np.arange(height),
        offsets[1, :, None] + most + np.arange(width),
    )
    moved: Images = padded[np.arange(count)[:, None, None], rows[:, :, None], columns[:, None, :]]
    return moved


def cut_out(images: Images, places: Floats, side: int, fill: int) -> Images:
    """Return the images with a square of `side` pixels, or all of it, set to `fill` at `places` (2, n) in 0..1."""
    height, width = images.shape[1:3]
    hidden = [
        (np.arange(size) >= first[:, None]) & (np.arange(size) < first[:, None] + side)
        for size, place in zip((height, width), places, strict=True)
        for first in [(place * np.float32(max(size - side, 0) + 1)).astype(np.int32)]
    ]
    inside = hidden[0][:, :, None] & hidden[1][:, None, :]
    return np.where(inside[..., None], np.uint8(fill), images)


def rotated(images: Images, angles: Floats, fill: int) -> Images:
    """Return the images, rotated about their centres by `angles` (n,) in radians, interpolated bilinearly."""
    count, height, width, channels = images.shape
    rows, columns = _sources(angles, height, width)
    # A margin of one pixel represents everything outside; coordinates are clipped into it.
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=fill)
    rows, columns = np.clip(rows + 1, 0, height + 1), np.clip(columns + 1, 0, width + 1)
    top = np.minimum(rows.astype(np.int32), height)
    left = np.minimum(columns.astype(np.int32), width)
    down, right = (rows - top)[..., None], (columns - left)[..., None]
    stride = width + 2
    flat = padded.reshape(-1, channels)
    corner = (np.arange(count, dtype=np.int32)[:, None, None] * (height + 2) + top) * stride + left
    above = flat[corner] * (1 - right) + flat[corner + 1] * right
    below = flat[corner + stride] * (1 - right) + flat[corner + stride + 1] * right
    turned: Images = np.rint(above * (1 - down) + below * down).astype(np.uint8)
    return turned


def _sources(angles: Floats, height: int, width: int) -> tuple[Floats, Floats]:
    """Return rows and columns (n, height, width) of the pixels that the pixels of the rotated image come from."""
    y = (np.arange(height, dtype=np.float32) - (height - 1) / 2)[None, :, None]
    x = (np.arange(width, dtype=np.float32) - (width - 1) / 2)[None, None, :]
    cos, sin = np.cos(angles)[:, None, None], np.sin(angles)[:, None, None]
    return cos * y - sin * x + np.float32((height - 1) / 2), sin * y + cos * x + np.float32((width - 1) / 2)
