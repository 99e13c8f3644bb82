"""Mixtures of two training images, or of the inputs of any two examples, which have a share of both targets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from objectives.augment.fading import Fading, is_number
from objectives.augment.pixels import cast, in_square, is_float, operations

Floats = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Mixing(Fading):
    """Mixes each example of a batch with another one of it; drawn again every step.

    The first example has at least half of a mixture, and the training accuracy is that on its target. With `fade` or
    `plain_epochs`, fewer examples are mixed in the last epochs. With both kinds, half of the mixed images are of each.
    """

    mixup: float = 0.0
    """Parameter of the beta distribution from which the share of the first example is drawn, such as 0.2; 0: none.
    Inputs are averaged by these shares. Zhang et al., "mixup: Beyond empirical risk minimization" (2018)."""
    cutmix: float = 0.0
    """Parameter of the beta distribution from which the share of the first image is drawn, such as 1.0; 0: none. A
    square of the other image, of the other share of the pixels, replaces its part of the first. Yun et al., "CutMix:
    Regularization strategy to train strong classifiers with localizable features" (2019), but the square always lies
    inside the image."""
    share: float = 1.0
    """Share of the examples that are mixed."""

    def draw(self, count: int, rng: np.random.Generator, strength: float = 1.0) -> Mixtures:
        """Draw the mixtures of `count` examples, of which `strength` × `share` are mixed."""
        order = rng.permutation(count)
        partners = np.empty_like(order)
        # In a circle, so that no example is its own partner.
        partners[order] = np.roll(order, 1)
        mixed = rng.random(count) < strength * self.share
        cut = rng.random(count) < 0.5 if self.mixup and self.cutmix else np.full(count, bool(self.cutmix))
        averaged = self._shares(self.mixup, mixed & ~cut, rng)
        kept = self._shares(self.cutmix, mixed & cut, rng)
        places = rng.random((2, count), np.float32) if self.cutmix else None
        return Mixtures(partners, averaged, kept if self.cutmix else None, places)

    def _shares(self, parameter: float, chosen: NDArray[np.bool_], rng: np.random.Generator) -> Floats:
        if not parameter:
            return np.ones(len(chosen), np.float32)
        drawn = rng.beta(parameter, parameter, len(chosen))
        return np.where(chosen, np.maximum(drawn, 1.0 - drawn), 1.0).astype(np.float32)

    def problem(self) -> str | None:
        """Return the first mistake as the end of a sentence; None if there is none."""
        for name in ("mixup", "cutmix"):
            value = getattr(self, name)
            if not is_number(value) or value < 0:
                return f"{name} must be a number of at least 0, such as 0.2, not {value!r:.60}"
        if not self.mixup and not self.cutmix:
            return "neither mixup nor cutmix is set: give one of them, such as Mixing(mixup=0.2)"
        if not is_number(self.share) or not 0 < self.share <= 1:
            return f"share must be above 0 and at most 1, not {self.share!r:.60}"
        return self.fading_problem()


@dataclass(frozen=True)
class Mixtures:
    """The mixtures of a batch of n examples, in NumPy arrays or in the backend's tensors."""

    partners: Any
    """Place in the batch of the other example of each (n,)."""
    averaged: Any
    """Share of the first example in an average (n,), float32; 1: all of it."""
    kept: Any = None
    """Drawn share of the pixels of the first image (n,), of which whole pixels are kept; None: no images are cut."""
    places: Any = None
    """Position of each square (2, n), from 0 (top, left) to 1 (bottom, right)."""

    def inputs(self, inputs: Any) -> tuple[Any, Any]:
        """Return the mixed inputs (n, …) and the share (n,) that each has of its first example."""
        ops, shares = operations(inputs), self.averaged
        others = ops.take(inputs, self.partners, axis=0)
        weights = ops.reshape(self.averaged, (-1, *[1] * (len(inputs.shape) - 1)))
        between = weights * cast(inputs, "float32") + (1 - weights) * cast(others, "float32")
        mixed = cast(between if is_float(inputs) else ops.round(between), inputs.dtype)
        if self.kept is not None:
            height, width = inputs.shape[1:3]
            sides = cast(ops.round(ops.sqrt((1 - self.kept) * float(height * width))), "int32")
            sides = ops.minimum(sides, min(height, width))
            mixed = ops.where(in_square(inputs, self.places, sides), others, mixed)
            shares = shares - cast(sides * sides, "float32") / float(height * width)
        return mixed, shares


def packed(targets: Any, partners: Any, shares: Any) -> Any:
    """Return float32 targets (n, 2 × width + 1): the first, the other one, and the share (n,) of the first.

    A loss of both targets needs no form of its own for mixed ones, whatever the task and its weights of classes.
    """
    ops = operations(targets)
    flat = cast(ops.reshape(targets, (partners.shape[0], -1)), "float32")
    return ops.concatenate([flat, ops.take(flat, partners, axis=0), shares[:, None]], axis=1)


def packed_width(shape: tuple[int, ...]) -> int:
    """Return the number of columns of packed targets, given the shape of all targets."""
    return 2 * int(np.prod(shape[1:], dtype=np.int64)) + 1
