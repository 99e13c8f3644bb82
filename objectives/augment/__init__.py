"""Random changes to training images: flip, rotation, shift, cutout, and mixtures of two images."""

from __future__ import annotations

from objectives.augment.alternation import Alternation
from objectives.augment.augmentation import CIFAR10, Augmentation, Changes
from objectives.augment.augmentation import Floats as Floats  # a name of version 0.1
from objectives.augment.fading import Progress
from objectives.augment.mixing import Mixing
from objectives.augment.pixels import cut_out, flipped, rotated, shifted

__all__ = [
    "CIFAR10",
    "Alternation",
    "Augmentation",
    "Changes",
    "Mixing",
    "Progress",
    "cut_out",
    "flipped",
    "rotated",
    "shifted",
]
