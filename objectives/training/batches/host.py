"""Batches of training examples that NumPy makes in the host's memory; `device` makes them on a GPU."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from objectives import backend
from objectives.augment import Alternation, Augmentation, Mixing, Progress, flipped
from objectives.augment.mixing import Mixtures, packed, packed_width
from objectives.backend.base import Batch, Steps
from objectives.data.inputs import Inputs, each
from objectives.data.read_ahead import read_ahead, release

if TYPE_CHECKING:
    import keras

    from objectives.data.splits import Data

FIRST = Progress()
Advance = Callable[[NDArray[np.int64], Sequence[np.random.Generator], Progress], Mapping[str, float]]
"""Function that trains on k batches, given the indices of their images (k, batch), a generator for each batch's
changes and the place of the epoch in the run; returns the model's metrics, as `Steps` does."""


@dataclass(frozen=True, kw_only=True)
class Variation:
    """The random changes to the training examples of a run; all of those of a step follow from its generator."""

    augmentation: Augmentation | None = None
    mixing: Mixing | None = None
    alternation: Alternation | None = None
    """Mirror images that take turns, if the augmentation has them."""

    @classmethod
    def of(cls, augmentation: Augmentation | None, mixing: Mixing | None, seed: int, count: int) -> Variation:
        """Return the variation of a run with this seed, of `count` training examples."""
        alternates = augmentation is not None and augmentation.alternates
        return cls(
            augmentation=augmentation,
            mixing=mixing,
            alternation=Alternation(seed, count) if alternates else None,
        )

    def during(self, progress: Progress) -> Augmentation | None:
        """Return the augmentation of an epoch."""
        return None if self.augmentation is None else self.augmentation.during(progress)

    def mixtures(self, count: int, rng: np.random.Generator, progress: Progress) -> Mixtures | None:
        """Draw the mixtures of a batch, after the changes to its images."""
        return None if self.mixing is None else self.mixing.draw(count, rng, self.mixing.strength(progress))


def host_steps(model: keras.Model, data: Data, variation: Variation) -> Steps:
    """Return the steps of a compiled model on batches that are made in the host's memory."""
    return backend.current().training_steps(model, targets_of(data, variation), named(data.x_train))


def types(data: Data, variation: Variation) -> list[tuple[str, str, tuple[int, ...]]]:
    """Return name, type and shape of a row of each array that such a step gets."""
    arrays = {**each(data.x_train), "targets": targets_of(data, variation)}
    return [(name, str(array.dtype), tuple(array.shape[1:])) for name, array in arrays.items()]


def has_text(inputs: Inputs) -> bool:
    """Return whether an input holds strings."""
    return any(array.dtype.kind == "U" for array in each(inputs).values())


def hosted(model: keras.Model, data: Data, variation: Variation, made_before: Steps | None = None) -> Advance:
    """Train on batches that are made in the host's memory."""
    arrays = each(data.x_train)
    steps = made_before or host_steps(model, data, variation)
    requests = [request for request in map(read_ahead, arrays.values()) if request is not None]

    def advance(
        chosen: NDArray[np.int64], generators: Sequence[np.random.Generator], progress: Progress = FIRST
    ) -> Mapping[str, float]:
        for request in requests:
            request(chosen)
        inputs = [array[chosen] for array in arrays.values()]
        for array in arrays.values():
            release(array)
        targets = _changed(inputs[0], data.y_train[chosen], chosen, variation, generators, progress)
        return steps((*inputs, targets))

    return advance


def _changed(
    inputs: NDArray[Any],
    targets: NDArray[Any],
    chosen: NDArray[np.int64],
    variation: Variation,
    generators: Sequence[np.random.Generator],
    progress: Progress,
) -> NDArray[Any]:
    """Change the inputs (k, batch, …) of k batches in place, and return their targets."""
    augmentation, found = variation.during(progress), list(targets)
    if augmentation is None and variation.mixing is None:
        return targets
    for number, (batch, rng) in enumerate(zip(inputs, generators, strict=True)):
        if variation.alternation is not None:
            batch[:] = flipped(batch, variation.alternation.mirrored(chosen[number], progress.epoch))
        if augmentation is not None:
            batch[:] = augmentation(batch, rng)
        mixtures = variation.mixtures(len(batch), rng, progress)
        if mixtures is not None:
            batch[:], shares = mixtures.inputs(batch)
            found[number] = packed(targets[number], mixtures.partners, shares)
    return targets if variation.mixing is None else np.stack(found)


def targets_of(data: Data, variation: Variation) -> NDArray[Any]:
    """Return an array with the type of a batch's targets, and their shape after the first axis."""
    if variation.mixing is None:
        return data.y_train
    return np.zeros((1, packed_width(data.y_train.shape)), np.float32)


def named(inputs: Inputs) -> Batch | None:
    """Return a function that names the arrays of a batch of several inputs; None for one input."""
    if not isinstance(inputs, dict):
        return None
    names = list(inputs)
    return lambda *parts: (dict(zip(names, parts[:-1], strict=True)), parts[-1])
