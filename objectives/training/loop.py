"""The training loop of Keras objectives: the same on every backend, and exact when a run is resumed.

The order of the images and the augmentation of a batch depend only on the run's seed and the epoch; dropout depends
on the state of Keras' seed generators, which is part of the checkpoint. So on a CPU a run that was interrupted after
any epoch gives exactly the numbers of an uninterrupted one.
"""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import keras
import numpy as np
from numpy.typing import NDArray

from hpo.errors import ObjectiveBrokenError
from objectives import backend
from objectives.augment import Progress
from objectives.backend import step_inputs
from objectives.base import Params, Run
from objectives.data import inputs
from objectives.data.splits import Data
from objectives.errors import DivergedError
from objectives.recipes import schedules
from objectives.recipes.averaging import averaged
from objectives.recipes.rates import with_factors
from objectives.recipes.schedules import Schedule
from objectives.training import batches, evaluation, folds, layers, sampling, trial_model
from objectives.training.averages import AveragedWeights
from objectives.training.batches import Variation
from objectives.training.compilation import compile_model, program_of
from objectives.training.evaluation import Judge
from objectives.training.folds import Part
from objectives.training.optimizers import FusedAdam, FusedSGD
from objectives.training.programs import Programs
from objectives.training.trial_model import Trainable
from objectives.values import metric_text

DEFAULT_BATCH_SIZE = 128
MOMENTUM = 0.9
CHUNK_SECONDS = 0.5
"""Longest time in seconds between two returns to Python, where progress is reported and a run can be paused."""
CHUNK_STEPS = 64
"""Largest number of batches in one chunk, whose images are all in memory."""
NOT_DECAYED = ("bias", "gamma", "beta")
"""Names of variables without weight decay: biases, and the scales and offsets of normalizations."""


def optimizer(params: Params, steps: int, schedule: Schedule = "cosine") -> keras.optimizers.Optimizer:
    """Return SGD with Nesterov momentum, or Adam, with one cycle: linear warm-up, then a way to zero.

    The way is half a cosine, or, with the schedule "constant-decay", a constant learning rate and a short decay.

    For both, `weight_decay` is decoupled (Loshchilov and Hutter, "Decoupled weight decay regularization", 2019), as
    Keras implements it: each step subtracts learning rate × weight decay × weight, outside the gradient. Biases and
    normalizations are exempt. The schedule follows the optimizer's step count, which is part of the checkpoint.

    Raises:
        ObjectiveBrokenError: the `optimizer` parameter is neither "sgd" nor "adam".
    """
    rate = schedules.made(schedule, float(params.get("learning_rate", 1e-3)), steps)
    decay = float(params.get("weight_decay", 0.0)) or None
    kind = params.get("optimizer", "adam")
    if kind == "sgd":
        sgd = FusedSGD if step_inputs.available() else keras.optimizers.SGD
        made: keras.optimizers.Optimizer = sgd(rate, momentum=MOMENTUM, nesterov=True, weight_decay=decay)
    elif kind == "adam":
        adam = FusedAdam if step_inputs.available() else keras.optimizers.Adam
        made = adam(rate, weight_decay=decay)
    else:
        raise ObjectiveBrokenError(
            f"unknown optimizer {kind!r} (use 'sgd' or 'adam'): override KerasObjective.optimizer for others"
        )
    made.exclude_from_weight_decay(var_names=NOT_DECAYED)
    return made


def train(
    objective: Trainable, params: Params, data: Data, run: Run, programs: Programs | None = None
) -> None:
    """Train one configuration; in a final run also evaluate on the test set and save the model.

    `programs` are those of a process that trains more than one.

    Raises:
        DivergedError: a loss is not finite.
        ObjectiveBrokenError: the model that `build` returned does not fit the data or the checkpoint.
        FreshProcessError: a process that has trained no other has to train it.
    """
    if run.final and data.x_test is None:
        raise ValueError("a final run needs prepare(options, final=True), which loads the test set")
    parts = folds.parts(data)
    # Folds may differ by some rows, of which an epoch leaves out a random choice.
    images = min(len(data.y_train if part.train is None else part.train) for part in parts)
    batch_size = min(int(params.get("batch_size", DEFAULT_BATCH_SIZE)), images)
    passes = max(1, math.ceil(objective.least_images_per_epoch / images))
    steps = passes * images // batch_size
    programs = programs or Programs(most=0)
    programs.begin()
    stock, judge = trial_model.build(objective, params, data, run)
    saved = 0 if run.state is None else int(run.state["epoch"])
    variation = Variation.of(
        trial_model.augmentation(objective, data), objective.mixing, run.seed, len(data.y_train)
    )
    optimizers = functools.partial(_optimizer, objective, params, run, steps)
    program = program_of(programs, stock, optimizers(max(saved, 1)), judge, run, variation, batch_size)
    training = _Training(
        model=program.model,
        data=data,
        judge=judge,
        run=run,
        parts=parts,
        batch_size=batch_size,
        images=passes * images,
        order=functools.partial(sampling.order, sampling=objective.sampling, passes=passes),
        variation=variation,
        advance=batches.advancing(program.model, data, variation, run, batch_size, program.steps),
        forward=program.forward,
        averages=AveragedWeights(program.model, data.x_train),
    )
    states = folds.States(program.model, len(parts), run.state)
    for epoch in run.epochs():
        if epoch - 1 in run.restarts:
            programs.forget(program)
            training = training.restarted(optimizers(epoch))
            states.restart()
        metrics = training.epoch(epoch, states)
        run.save(states.captured(epoch))
        listed = " ".join(f"{name}={metric_text(value)}" for name, value in metrics.items())
        run.log(f"epoch {epoch}/{run.total_epochs}: {listed}")
        run.report(**metrics)
    if run.final and states.completed == run.total_epochs:
        run.record(precision=backend.precision(run.device))
        training.finish(stock)


def _optimizer(
    objective: Trainable, params: Params, run: Run, steps: int, epoch: int
) -> keras.optimizers.Optimizer:
    """Return the optimizer of an epoch's cycle, with factors of the learning rate and the average of the weights.

    `steps` is the number of batches in an epoch.
    """
    made = objective.optimizer(params, steps * _progress(run, epoch).length)
    return averaged(with_factors(made, objective.learning_rate_factors), objective.weight_averaging)


def _progress(run: Run, epoch: int) -> Progress:
    """Return the place of an epoch in the run, and in the cycle of the schedule that it belongs to."""
    ends = [*sorted(run.restarts), run.total_epochs]
    last = next(end for end in ends if epoch <= end)
    begun = max((end for end in ends if end < epoch), default=0)
    return Progress(epoch=epoch, place=epoch - begun, length=last - begun)


@dataclass(frozen=True, kw_only=True)
class _Training:
    """The parts of a run that train and validate a compiled model for one epoch."""

    model: keras.Model
    data: Data
    judge: Judge
    run: Run
    parts: Sequence[Part]
    batch_size: int
    images: int
    """Number of images of each fold in an epoch."""
    order: Callable[..., NDArray[np.int64]]
    """Function of the targets and a generator that returns the order of the examples."""
    variation: Variation
    advance: batches.Advance
    forward: evaluation.Forward
    averages: AveragedWeights

    def restarted(self, optimizer: keras.optimizers.Optimizer) -> _Training:
        """Return the training of the same weights with a new optimizer.

        A restart begins a cycle of the learning rate with the weights that the last one has reached (Loshchilov and
        Hutter, "SGDR: Stochastic gradient descent with warm restarts", 2017).
        """
        compile_model(self.model, optimizer, self.judge, self.run, self.variation)
        advance = batches.advancing(self.model, self.data, self.variation, self.run, self.batch_size)
        return replace(self, advance=advance)

    def finish(self, stock: keras.Model) -> None:
        """Evaluate the trained weights, or their average, on the test set, and export them in the model of `build`."""
        self.averages.apply(None, self.sampling(self.run.total_epochs))
        layers.copy_variables(self.model, stock)
        # A model that was trained on mirror images can also average over a test image and its mirror image.
        flip = self.variation.augmentation is not None and bool(self.variation.augmentation.flip)
        evaluation.finish(stock, self.data, self.judge, self.run, flip)

    def epoch(self, epoch: int, states: folds.States) -> dict[str, float]:
        """Train each fold for one epoch; return the metrics over all."""
        measured, seconds = [], 0.0
        for fold, part in enumerate(self.parts):
            states.enter(fold)
            # Each fold draws as a run of its own would.
            sequence = np.random.SeedSequence([self.run.seed, epoch])
            backend.current().begin_epoch(int(sequence.generate_state(1)[0]))
            began_at = time.perf_counter()
            found = self._train(epoch, fold, part)
            seconds += time.perf_counter() - began_at
            rate = float(keras.ops.convert_to_tensor(self.model.optimizer.learning_rate))
            measured.append(found | ({} if self.run.final else self._validate(part, epoch)))
            states.leave(fold, epoch)
        steps = len(self.parts) * (self.images // self.batch_size)
        speed = {"images_per_second": steps * self.batch_size / seconds, "learning_rate": rate}
        found = folds.summary(measured)
        validation = {name: found.pop(name) for name in [*found] if name.startswith("val_")}
        return found | speed | validation

    def _train(self, epoch: int, fold: int, part: Part) -> dict[str, float]:
        """Train on the examples in random order, without the last ones that do not fill a batch.

        The backend gets as many batches at a time as take about `CHUNK_SECONDS`; their number does not change results.
        """
        self.model.reset_metrics()
        order, run, batch_size = self._ordered(part, epoch), self.run, self.batch_size
        progress = _progress(run, epoch)
        steps = len(order) // batch_size
        metrics: dict[str, float] = {}
        done, size = 0, 1
        while done < steps:
            began_at = time.perf_counter()
            chunk = range(done, min(done + size, steps))
            chosen = order[chunk.start * batch_size : chunk.stop * batch_size].reshape(-1, batch_size)
            generators = [np.random.default_rng([run.seed, epoch, step]) for step in chunk]
            metrics = self.advance(chosen, generators, progress)
            done = chunk.stop
            _must_be_finite(metrics["loss"], f"loss of epoch {epoch}, batch {done} of {steps}")
            completed = fold * steps + done
            run.tick(completed, len(self.parts) * steps, completed * batch_size)
            seconds_per_step = (time.perf_counter() - began_at) / len(chunk)
            size = max(1, min(2 * size, CHUNK_STEPS, int(CHUNK_SECONDS / seconds_per_step)))
        return {name: metrics[name] for name in ("loss", "accuracy") if name in metrics}

    def _ordered(self, part: Part, epoch: int) -> NDArray[np.int64]:
        rng = np.random.default_rng([self.run.seed, epoch])
        if part.train is None:
            return self.order(self.data.y_train, rng=rng)
        return part.train[self.order(self.data.y_train[part.train], rng=rng)][: self.images]

    def sampling(self, epoch: int) -> np.random.Generator:
        """Return the generator that samples examples for the statistics of averaged weights after an epoch."""
        return np.random.default_rng([self.run.seed, 0, 2, epoch])

    def _validate(self, part: Part, epoch: int) -> dict[str, float]:
        """Return the metrics of the validation rows, or of those that a fold holds out, of averaged weights if any."""
        x, y = self.data.x_valid, self.data.y_valid
        if part.held_out is not None:
            x, y = inputs.take(self.data.x_train, part.held_out), self.data.y_train[part.held_out]
        with self.averages.applied(part.train, self.sampling(epoch)):
            raw = evaluation.raw_outputs(self.forward, x)
        return self.judge.measure("val_", y, raw)


def _must_be_finite(value: float, description: str) -> None:
    if not math.isfinite(value):
        raise DivergedError(f"the {description} is {value}: try a lower learning rate")
