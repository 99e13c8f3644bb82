"""The training loop of Keras objectives: the same on every backend, and exact when a run is resumed.

The order of the images and the augmentation of a batch depend only on the run's seed and the epoch; dropout depends
on the state of Keras' seed generators, which is part of the checkpoint. So on a CPU a run that was interrupted after
any epoch gives exactly the numbers of an uninterrupted one.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from hpo.errors import ObjectiveBrokenError
from objectives import backend
from objectives.backend import kernels
from objectives.base import DataOptions, Params, Run
from objectives.data.splits import Data
from objectives.data_loading import load_data
from objectives.data_options import TaskName
from objectives.errors import DivergedError
from objectives.training import batches, checkpoint, evaluation, layers, sampling, trial_model
from objectives.training.optimizers import FusedAdam, FusedSGD
from objectives.training.trial_model import Trainable
from objectives.values import metric_text

DEFAULT_BATCH_SIZE = 128
WARMUP_FRACTION = 0.1
"""Share of all steps in which the learning rate rises to its peak."""
MOMENTUM = 0.9
CHUNK_SECONDS = 0.5
"""Longest time in seconds between two returns to Python, where progress is reported and a run can be paused."""
CHUNK_STEPS = 64
"""Largest number of batches in one chunk, whose images are all in memory."""
NOT_DECAYED = ("bias", "gamma", "beta")
"""Names of variables without weight decay: biases, and the scales and offsets of normalizations."""


def load(
    source: str | Callable[[], Any] | None,
    classes: Sequence[str] | None,
    options: DataOptions,
    final: bool,
    task: TaskName = "classes",
) -> Data:
    """Return an objective's data, split; starts no backend, so that trainers can be forked afterwards.

    Raises:
        ObjectiveBrokenError: `source` is neither a name nor a function, and the options name no images.
        DataMissingError: the data set is not on this machine.
        DataDamagedError: the data set is invalid.
    """
    return load_data(source, classes, options, final, task)


def optimizer(params: Params, steps: int) -> keras.optimizers.Optimizer:
    """Return SGD with Nesterov momentum, or Adam, with one cycle: linear warm-up, then a cosine to zero.

    For both, `weight_decay` is decoupled (Loshchilov and Hutter, "Decoupled weight decay regularization", 2019), as
    Keras implements it: each step subtracts learning rate × weight decay × weight, outside the gradient. Biases and
    normalizations are exempt. The schedule follows the optimizer's step count, which is part of the checkpoint.

    Raises:
        ObjectiveBrokenError: the `optimizer` parameter is neither "sgd" nor "adam".
    """
    warmup = max(1, round(steps * WARMUP_FRACTION))
    peak = float(params.get("learning_rate", 1e-3))
    # A warm-up starts at zero: a run of a single step would not train at all.
    start = 0.0 if steps > 1 else peak
    schedule = keras.optimizers.schedules.CosineDecay(
        start, max(1, steps - warmup), warmup_target=peak, warmup_steps=warmup
    )
    decay = float(params.get("weight_decay", 0.0)) or None
    kind = params.get("optimizer", "adam")
    if kind == "sgd":
        sgd = FusedSGD if kernels.available() else keras.optimizers.SGD
        made: keras.optimizers.Optimizer = sgd(schedule, momentum=MOMENTUM, nesterov=True, weight_decay=decay)
    elif kind == "adam":
        adam = FusedAdam if kernels.available() else keras.optimizers.Adam
        made = adam(schedule, weight_decay=decay)
    else:
        raise ObjectiveBrokenError(
            f"unknown optimizer {kind!r} (use 'sgd' or 'adam'): override KerasObjective.optimizer for others"
        )
    made.exclude_from_weight_decay(var_names=NOT_DECAYED)
    return made


def train(objective: Trainable, params: Params, data: Data, run: Run) -> None:
    """Train one configuration; in a final run also evaluate on the test set and save the model.

    Raises:
        DivergedError: a loss is not finite.
        ObjectiveBrokenError: the model that `build` returned does not fit the data or the checkpoint.
    """
    if run.final and data.x_test is None:
        raise ValueError("a final run needs prepare(options, final=True), which loads the test set")
    images = len(data.y_train)
    batch_size = min(int(params.get("batch_size", DEFAULT_BATCH_SIZE)), images)
    passes = max(1, math.ceil(objective.least_images_per_epoch / images))
    steps = passes * images // batch_size
    stock, judge = trial_model.build(objective, params, data, run)
    precision = backend.precision(run.device)
    model = layers.accelerated(stock, precision)
    if model is stock:
        run.log(
            "a layer cannot be copied (it has no usable get_config): training in float32 with the original layers"
        )
    model.compile(
        objective.optimizer(params, steps * run.total_epochs),
        loss=judge.loss.training,
        metrics=judge.task.accuracy(),
        jit_compile=False if run.device.gpu is None else "auto",
    )
    completed = checkpoint.restore(model, run.state) if run.state is not None else 0
    augmentation = trial_model.augmentation(objective, data)
    advance = batches.advancing(model, data, augmentation, run.device)
    forward = backend.current().forward(model)
    for epoch in run.epochs():
        began_at = time.perf_counter()
        model.reset_metrics()
        rng = np.random.default_rng([run.seed, epoch])
        order = sampling.order(data.y_train, objective.sampling, passes, rng)
        metrics = _train_epoch(advance, order, batch_size, epoch, run)
        metrics["images_per_second"] = steps * batch_size / (time.perf_counter() - began_at)
        metrics["learning_rate"] = float(keras.ops.convert_to_tensor(model.optimizer.learning_rate))
        if not run.final:
            raw = evaluation.raw_outputs(forward, data.x_valid)
            metrics |= judge.measure("val_", data.y_valid, raw)
        completed = epoch
        run.save(checkpoint.capture(model, completed))
        listed = " ".join(f"{name}={metric_text(value)}" for name, value in metrics.items())
        run.log(f"epoch {epoch}/{run.total_epochs}: {listed}")
        run.report(**metrics)
    if run.final and completed == run.total_epochs:
        run.record(precision=precision)
        layers.copy_variables(model, stock)
        # A model that was trained on mirror images can also average over a test image and its mirror image.
        flip = augmentation is not None and augmentation.flip
        evaluation.finish(stock, data, judge, run, flip)


def _train_epoch(
    advance: batches.Advance, order: NDArray[np.int64], batch_size: int, epoch: int, run: Run
) -> dict[str, float]:
    """Train on the images in this order, without the last ones that do not fill a batch.

    The backend gets as many batches at a time as take about `CHUNK_SECONDS`; their number does not change results.
    """
    steps = len(order) // batch_size
    metrics: dict[str, float] = {}
    done, size = 0, 1
    while done < steps:
        began_at = time.perf_counter()
        chunk = range(done, min(done + size, steps))
        chosen = order[chunk.start * batch_size : chunk.stop * batch_size].reshape(-1, batch_size)
        metrics = advance(chosen, [np.random.default_rng([run.seed, epoch, step]) for step in chunk])
        done = chunk.stop
        _must_be_finite(metrics["loss"], f"loss of epoch {epoch}, batch {done} of {steps}")
        run.tick(done, steps, done * batch_size)
        seconds_per_step = (time.perf_counter() - began_at) / len(chunk)
        size = max(1, min(2 * size, CHUNK_STEPS, int(CHUNK_SECONDS / seconds_per_step)))
    return {name: metrics[name] for name in ("loss", "accuracy") if name in metrics}


def _must_be_finite(value: float, description: str) -> None:
    if not math.isfinite(value):
        raise DivergedError(f"the {description} is {value}: try a lower learning rate")
