"""Batches of training examples: made by NumPy on the host, or, on a GPU, gathered and augmented on the device.

A GPU would have to wait for the host: NumPy augments a few thousand CIFAR-10 images per second and core, and a GPU
trains on tens of thousands. So the images lie on the device as uint8, and only the random draws are transferred: for
each image its index, a bit, an angle, two offsets and a position to cut out. Both ways draw from the same generators,
so that a batch is the same up to the rounding of a rotated pixel.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from objectives import backend
from objectives.augment import Alternation, Augmentation, Changes, Mixing, Progress, flipped
from objectives.augment.mixing import Mixtures, packed, packed_width
from objectives.backend.base import Batch, Steps
from objectives.data.inputs import Inputs, each
from objectives.data.read_ahead import read_ahead, release

if TYPE_CHECKING:
    from objectives.data.splits import Data
    from objectives.device import Device

_FIRST = Progress()
_MIXTURE = "mixed_"
"""Prefix of the names of mixtures among those of changes."""

Advance = Callable[[NDArray[np.int64], Sequence[np.random.Generator], Progress], dict[str, float]]
"""Function that trains on k batches, given the indices of their images (k, batch), a generator for each batch's
changes and the place of the epoch in the run; returns the model's metrics since its last `reset_metrics()`."""


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


def advancing(
    model: keras.Model, data: Data, variation: Variation, device: Device, steps: Steps | None = None
) -> Advance:
    """Return the function that trains a compiled model on this device; `steps` are its `host_steps`, made before."""
    # A user's own subclass of Augmentation can only be called, on the host, where strings are too.
    known = type(variation.augmentation) in (Augmentation, type(None))
    on_device = device.gpu is not None and known and not has_text(data.x_train)
    return resident(model, data, variation) if on_device else hosted(model, data, variation, steps)


def host_steps(model: keras.Model, data: Data, variation: Variation) -> Steps:
    """Return the steps of a compiled model on batches that are made in the host's memory."""
    return backend.current().training_steps(model, _targets(data, variation), _named(data.x_train))


def types(data: Data, variation: Variation) -> list[tuple[str, str, tuple[int, ...]]]:
    """Return name, type and shape of a row of each array that such a step gets."""
    arrays = {**each(data.x_train), "targets": _targets(data, variation)}
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
        chosen: NDArray[np.int64], generators: Sequence[np.random.Generator], progress: Progress = _FIRST
    ) -> dict[str, float]:
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


def _targets(data: Data, variation: Variation) -> NDArray[Any]:
    """Return an array with the type of a batch's targets, and their shape after the first axis."""
    if variation.mixing is None:
        return data.y_train
    return np.zeros((1, packed_width(data.y_train.shape)), np.float32)


def _named(inputs: Inputs) -> Batch | None:
    """Return a function that names the arrays of a batch of several inputs; None for one input."""
    if not isinstance(inputs, dict):
        return None
    names = list(inputs)
    return lambda *parts: (dict(zip(names, parts[:-1], strict=True)), parts[-1])


def resident(model: keras.Model, data: Data, variation: Variation) -> Advance:
    """Train on examples that are copied to the device here and stay there."""
    arrays = each(data.x_train)
    on_device = [ops.convert_to_tensor(array) for array in (*arrays.values(), data.y_train)]
    named, augmentation = _named(data.x_train), variation.augmentation
    kinds = tuple(_drawn(variation, np.zeros(1, np.int64), np.random.default_rng(0), _FIRST))

    def batch(*parts: Any) -> tuple[Any, Any]:
        index, changes = parts[len(on_device)], dict(zip(kinds, parts[len(on_device) + 1 :], strict=True))
        found = [ops.take(array, index, axis=0) for array in parts[: len(on_device)]]
        mixtures = {name: changes.pop(name) for name in kinds if name.startswith(_MIXTURE)}
        if augmentation is not None:
            found[0] = augmentation.apply(found[0], Changes(**changes))
        if mixtures:
            given = Mixtures(**{name.removeprefix(_MIXTURE): value for name, value in mixtures.items()})
            found[0], shares = given.inputs(found[0])
            found[-1] = packed(found[-1], given.partners, shares)
        return named(*found) if named is not None else (found[0], found[1])

    steps = backend.current().training_steps(model, _targets(data, variation), batch, on_device)

    def advance(
        chosen: NDArray[np.int64], generators: Sequence[np.random.Generator], progress: Progress = _FIRST
    ) -> dict[str, float]:
        every = [_drawn(variation, rows, rng, progress) for rows, rng in zip(chosen, generators, strict=True)]
        stacked = [np.stack([one[kind] for one in every]) for kind in kinds]
        small = [array.astype(np.int32) if array.dtype == np.int64 else array for array in stacked]
        return steps((chosen.astype(np.int32), *small))

    return advance


def _drawn(
    variation: Variation, rows: NDArray[np.int64], rng: np.random.Generator, progress: Progress
) -> dict[str, NDArray[Any]]:
    """Draw the changes of a batch, by name: in each epoch the same names, because a graph needs all of them."""
    found: dict[str, Any] = {}
    augmentation, now = variation.augmentation, variation.during(progress)
    if augmentation is not None and now is not None:
        drawn = dict(vars(now.draw(len(rows), rng)))
        if variation.alternation is not None:
            drawn["mirror"] = variation.alternation.mirrored(rows, progress.epoch)
        faded = now is not augmentation
        wanted = vars(augmentation.draw(len(rows), np.random.default_rng(0))) if faded else drawn
        found = {
            name: np.zeros_like(value) if drawn[name] is None else drawn[name]
            for name, value in wanted.items()
            if value is not None
        }
    mixtures = variation.mixtures(len(rows), rng, progress)
    if mixtures is not None:
        found |= {_MIXTURE + name: value for name, value in vars(mixtures).items() if value is not None}
    return found
