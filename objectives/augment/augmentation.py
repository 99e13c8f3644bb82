"""Augmentation of training images: flip, rotation, shift and cutout, in NumPy or in the backend's operations.

Keras' layers do the same inside the model, but then every checkpoint and the exported model must hold their random
state. Here the changes of a batch depend only on its generator, so that an interrupted epoch is repeated exactly, on
any backend.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from objectives.augment.fading import Fading, Progress, is_number, is_whole
from objectives.augment.pixels import cut_out, flipped, rotated, shifted
from objectives.data.arrays import Images

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Augmentation(Fading):
    """Random changes to each training image, drawn again every epoch.

    With `fade` or `plain_epochs`, shift, rotation and cutout become weaker over the last epochs; mirror images stay.
    """

    flip: bool | Literal["alternating"] = False
    """Whether half of the images are mirrored left to right; not for digits or letters. "alternating": each image is
    mirrored in every second epoch, half of them in the first, so that two epochs show both sides of each."""
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
            sides=np.full(count, self.cutout) if self.cutout else None,
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
            images = cut_out(images, changes.places, changes.sides, self.fill)
        return images

    @property
    def alternates(self) -> bool:
        """Whether mirror images take turns, which the training loop keeps count of."""
        return self.flip == "alternating"

    def during(self, progress: Progress) -> Augmentation:
        """Return the changes of an epoch, as strong as it has them, without mirror images that take turns."""
        strength = self.strength(progress)
        if strength == 1.0 and not self.alternates:
            return self
        return replace(
            self,
            flip=False if self.alternates else self.flip,
            shift=round(strength * self.shift),
            rotation_degrees=strength * self.rotation_degrees,
            cutout=round(strength * self.cutout),
        )

    def problem(self) -> str | None:
        """Return the first mistake as the end of a sentence; None if there is none."""
        if not (isinstance(self.flip, bool | np.bool_) or self.alternates):
            return f"flip must be True, False or 'alternating', not {self.flip!r:.60}"
        for name in ("shift", "cutout"):
            if not is_whole(getattr(self, name)):
                return (
                    f"{name} must be a whole number of pixels of at least 0, not {getattr(self, name)!r:.60}"
                )
        if not is_number(self.rotation_degrees) or self.rotation_degrees < 0:
            return f"rotation_degrees must be a number of at least 0, not {self.rotation_degrees!r:.60}"
        if not is_number(self.rotated_share) or not 0 <= self.rotated_share <= 1:
            return f"rotated_share must be a share from 0 to 1, not {self.rotated_share!r:.60}"
        return self.fading_problem()


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
    sides: NDArray[np.int64] | None = None
    """Side in pixels of each cut-out square (n,)."""
