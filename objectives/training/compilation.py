"""The compiled model of a run, new or kept from an earlier run of the process."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import keras
import numpy as np

from objectives import backend
from objectives.augment import Augmentation, Mixing
from objectives.base import Run
from objectives.training import batches, identity, layers, model_figures
from objectives.training.batches import Variation
from objectives.training.evaluation import Judge
from objectives.training.mixed_targets import first_accuracy, mixed_loss
from objectives.training.programs import Program, Programs


def program_of(
    programs: Programs,
    stock: keras.Model,
    optimizers: Callable[[], keras.optimizers.Optimizer],
    judge: Judge,
    run: Run,
    variation: Variation,
    batch_size: int,
) -> Program:
    """Return the program that trains a model; measure the model if the study asks for its figures.

    `optimizers` makes an optimizer at each call.

    Raises:
        FreshProcessError: a process that has trained no other has to train it.
        Infeasible: a figure violates a constraint of the study.
    """
    precision, data, optimizer = backend.precision(run.device), judge.task.data, optimizers()

    def make() -> Program:
        with unchanged_random_state():
            model = _compiled(stock, precision, optimizer, judge, run, variation)
        if lane is not None:
            model.optimizer.build(model.trainable_variables)
        steps = batches.host_steps(model, data, variation) if run.device.gpu is None else None
        return Program(model=model, steps=steps, forward=backend.current().forward(model))

    def another_model() -> keras.Model:
        with unchanged_random_state():
            return _compiled(stock, precision, optimizers(), judge, run, variation)

    key, lane = None, backend.lane.current()
    if programs.keeps:
        with suppress(identity.UnknownError):
            key = key_of(stock, optimizer, judge, variation, batch_size, precision)
        if lane is not None:
            lane.admit(lane_shape(key, variation), another_model)
        programs.admit(key, stock)
    model_figures.measure(run, stock)
    return programs.program(key, stock, optimizer, make)


def key_of(
    stock: keras.Model,
    optimizer: keras.optimizers.Optimizer,
    judge: Judge,
    variation: Variation,
    batch_size: int,
    precision: str,
) -> str:
    """Return the identity of the program that trains a model.

    Raises:
        UnknownError: it has none, and why.
    """
    traced = (*_compiled_with(judge, variation), batches.types(judge.task.data, variation))
    settings = precision, batch_size, backend.current().keras_settings()
    return identity.compared(stock, optimizer, *settings, *traced)


def lane_shape(key: str | None, variation: Variation) -> str | None:
    """Return the identity of a program that also changes the images, as one on a GPU does; None if it has none."""
    known = (Augmentation, Mixing, type(None))
    if key is None or not {type(variation.augmentation), type(variation.mixing)}.issubset(known):
        return None
    found = f"{key} {variation.augmentation} {variation.mixing}"
    return hashlib.blake2b(found.encode(), digest_size=16).hexdigest()


@contextmanager
def unchanged_random_state() -> Iterator[None]:
    """Restore the generators of Python and NumPy, from which layers take seeds, after this block.

    An augmentation or a metric of yours may draw from them after a model was copied, or after no copy was needed.
    """
    python, numpy = random.getstate(), np.random.get_state()
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)


def _compiled(
    stock: keras.Model,
    precision: str,
    optimizer: keras.optimizers.Optimizer,
    judge: Judge,
    run: Run,
    variation: Variation,
) -> keras.Model:
    """Return a faster copy of the model, or the model itself if it cannot be copied, ready to be trained."""
    model = layers.accelerated(stock, precision)
    if model is stock:
        run.log(
            "a layer cannot be copied (it has no usable get_config): training in float32 with the original layers"
        )
    compile_model(model, optimizer, judge, run, variation)
    return model


def compile_model(
    model: keras.Model, optimizer: keras.optimizers.Optimizer, judge: Judge, run: Run, variation: Variation
) -> None:
    loss, metrics = _compiled_with(judge, variation)
    jit_compile = False if run.device.gpu is None else "auto"
    model.compile(optimizer, loss=loss, metrics=metrics, jit_compile=jit_compile)


def _compiled_with(judge: Judge, variation: Variation) -> tuple[Any, list[Any]]:
    """Return loss and metrics of training."""
    if variation.mixing is None:
        return judge.loss.training, judge.task.accuracy()
    return mixed_loss(judge.loss.training), first_accuracy(judge.task.accuracy())
