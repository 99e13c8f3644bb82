"""The shape of a trial: trials of one shape can train in one program."""

from __future__ import annotations

import copy
from weakref import WeakSet

import keras

from objectives import backend
from objectives.base import Objective, Params
from objectives.device import Device
from objectives.keras_objective import KerasObjective
from objectives.lanes import policy
from objectives.runs import switches
from objectives.training import identity, loop, trial_model
from objectives.training.batches import Variation
from objectives.training.compilation import key_of, lane_shape
from objectives.training.programs import unnumbered_names

built_layers: WeakSet[keras.layers.Layer] = WeakSet()
"""Layers of the models that have been built in this process, for their shapes or in lanes.

Code of an objective that keeps a model returns it with the weights of another trial.
"""


class NotLanedError(Exception):
    """A trial cannot share a program with others; the message is the reason, as the end of a sentence."""


def refusal(objective: Objective) -> str | None:
    """Return why no trial of an objective can train in a lane, as the end of a sentence; None if some may."""
    if backend.name() != "jax":
        return f"lanes need JAX, and Keras uses {backend.name()} here (KERAS_BACKEND=jax)"
    if type(objective).train is not KerasObjective.train:
        return (
            f"{type(objective).__name__} trains by a method of its own, and lanes by that of KerasObjective"
        )
    return None


def shape_of(
    objective: Objective, params: Params, *, device: Device | None = None, epochs: int | None = None
) -> str:
    """Return the shape of a trial after `prepare`: equal texts mean that one program trains both, in one process.

    The model is built, because code of yours may use a parameter in any way, and not trained. Random generators and
    Keras' names are as before. `device` is that of the run, whose precision is part of the shape; `epochs` is its
    number of epochs, the objective's if None.

    Raises:
        NotLanedError: it cannot train in a lane.
        Exception: as `build` and `optimizer` of the objective.
    """
    reason = refusal(objective)
    if reason is not None:
        raise NotLanedError(reason)
    assert isinstance(objective, KerasObjective)
    policy.apply()
    with backend.lane.apart(), unnumbered_names():
        return _shape(objective, params, device or Device(), epochs or objective.epochs or 1)


def _shape(objective: KerasObjective, params: Params, device: Device, epochs: int) -> str:
    # `build` may set attributes, which are no business of other trials.
    objective, own = switches.applied(copy.copy(objective), params, objective.space, KerasObjective)
    data = objective._data
    assert data is not None, "call prepare() first"
    keras.utils.set_random_seed(0)
    model, judge = trial_model.build(objective, own, data)
    layers = list(model._flatten_layers(include_self=False))
    if not built_layers.isdisjoint(layers):
        raise NotLanedError(
            "build() returns layers that it has returned before, with the weights of another trial"
        )
    built_layers.update(layers)
    augmentation = trial_model.augmentation(objective, data)
    variation = Variation.of(augmentation, objective.mixing, 0, len(data.y_train))
    batch_size, passes, images = loop.epoch_of(objective, own, data)
    made = loop.optimizer_of(objective, own, epochs * (passes * images // batch_size))
    try:
        key = key_of(model, made, judge, variation, batch_size, backend.precision(device))
    except identity.UnknownError as exc:
        raise NotLanedError(f"{exc} may do more than can be compared from trial to trial") from exc
    found = lane_shape(key, variation)
    if found is None:
        raise NotLanedError("the augmentation is a class of your own, which may keep a state")
    return found
