"""Random changes to training images that keep their class: flip, rotation, shift and cutout, in NumPy.

Keras' own layers do the same inside the model, but their random state then has to be part of every
checkpoint and of the exported model. Here a batch's changes follow from the generator alone, so
an interrupted epoch is repeated exactly, on any backend.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from objectives.data.arrays import Images

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Augmentation:
    """Which changes are made to each training image, each drawn anew every epoch."""

    flip: bool = False
    """Mirror half of the images left to right; not for digits or letters."""
    shift: int = 0
    """Move by up to so many pixels in each direction; what comes in from outside is `fill`."""
    rotation_degrees: float = 0.0
    """Turn about the centre by up to so many degrees either way."""
    rotated_share: float = 1.0
    """Share of the images that are turned at all. A turned image is interpolated and so less sharp than those that a
    model is tested on, which it then should see too."""
    cutout: int = 0
    """Side in pixels of a square, anywhere in the image, that becomes `fill`: no one part of an object may be all
    that a model knows it by. DeVries and Taylor, "Improved regularization of convolutional neural networks with
    cutout" (2017), but never cut off at the image's edge."""
    fill: int = 0
    """Pixel value outside the image and in what is cut out. Near the images' mean it is the least to stand out."""

    def draw(self, count: int, rng: np.random.Generator) -> Changes:
        """What is to be done to each of `count` images."""
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
        """Changed copies of a uint8 batch (n, height, width, channels)."""
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
"""What the shipped objectives do to its images, whose mean pixel is 121."""


@dataclass(frozen=True)
class Changes:
    """What is done to each image of a batch of n, in this order; None: nothing of the kind."""

    mirror: NDArray[np.bool_] | None
    """(n,): whether it is mirrored."""
    angles: Floats | None
    """(n,): by how many radians it is turned."""
    offsets: NDArray[np.int64] | None
    """(2, n): from how many pixels further down and right each pixel is taken."""
    places: Floats | None
    """(2, n): where what is cut out lies, from 0 (at the top, at the left) to 1 (at the bottom, at the right)."""


def flipped(images: Images, mirror: NDArray[np.bool_]) -> Images:
    """Images mirrored left to right where `mirror` (n,) says so."""
    return np.where(mirror[:, None, None, None], images[:, :, ::-1], images)


def shifted(images: Images, offsets: NDArray[np.int64], fill: int) -> Images:
    """Images moved by whole pixels: each pixel is what lay `offsets` (2, n) further down and right."""
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
    """Images in which a square of `side` pixels, or of as many as there are, is `fill`, at `places` (2, n) of 0..1."""
    height, width = images.shape[1:3]
    hidden = [
        (np.arange(size) >= first[:, None]) & (np.arange(size) < first[:, None] + side)
        for size, place in zip((height, width), places, strict=True)
        for first in [(place * np.float32(max(size - side, 0) + 1)).astype(np.int32)]
    ]
    inside = hidden[0][:, :, None] & hidden[1][:, None, :]
    return np.where(inside[..., None], np.uint8(fill), images)


def rotated(images: Images, angles: Floats, fill: int) -> Images:
    """Each image turned about its centre by its angle (n,) in radians, interpolated bilinearly."""
    count, height, width, channels = images.shape
    rows, columns = _sources(angles, height, width)
    # One pixel of margin stands for everything outside; coordinates are clipped into it.
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
    """Where in the image each pixel of the turned one comes from: rows and columns (n, height, width)."""
    y = (np.arange(height, dtype=np.float32) - (height - 1) / 2)[None, :, None]
    x = (np.arange(width, dtype=np.float32) - (width - 1) / 2)[None, None, :]
    cos, sin = np.cos(angles)[:, None, None], np.sin(angles)[:, None, None]
    return cos * y - sin * x + np.float32((height - 1) / 2), sin * y + cos * x + np.float32((width - 1) / 2)
