"""The training loop of Keras objectives: the same on every backend, and exact when a run is resumed.

The order of the images and the augmentation of a batch depend only on the run's seed and the epoch; dropout depends
on the state of Keras' seed generators, which is part of the checkpoint. So on a CPU a run that was interrupted after
any epoch gives exactly the numbers of an uninterrupted one.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass

import keras

from hpo.errors import ObjectiveBrokenError
from objectives import backend
from objectives.backend import step_inputs
from objectives.base import Params, Run
from objectives.data.splits import Data
from objectives.recipes import schedules
from objectives.recipes.averaging import averaged
from objectives.recipes.rates import with_factors
from objectives.recipes.schedules import Schedule
from objectives.training import batches, folds, sampling, trial_model
from objectives.training.averages import AveragedWeights
from objectives.training.batches import Variation
from objectives.training.compilation import program_of
from objectives.training.epochs import Training, progress_of
from objectives.training.optimizers import FusedAdam, FusedSGD
from objectives.training.programs import Program, Programs
from objectives.training.trial_model import Trainable
from objectives.values import metric_text

DEFAULT_BATCH_SIZE = 128
MOMENTUM = 0.9
NOT_DECAYED = ("bias", "gamma", "beta")
"""Names of variables without weight decay: biases, and the scales and offsets of normalizations."""


def optimizer(params: Params, steps: int, schedule: Schedule = "cosine") -> keras.optimizers.Optimizer:
    """Return SGD with Nesterov momentum (`momentum`, 0.9), or Adam, with one cycle: linear warm-up, then a way to zero.

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
        made: keras.optimizers.Optimizer = sgd(
            rate, momentum=float(params.get("momentum", MOMENTUM)), nesterov=True, weight_decay=decay
        )
    elif kind == "adam":
        adam = FusedAdam if step_inputs.available() else keras.optimizers.Adam
        made = adam(rate, weight_decay=decay)
    else:
        raise ObjectiveBrokenError(
            f"unknown optimizer {kind!r} (use 'sgd' or 'adam'): override KerasObjective.optimizer for others"
        )
    made.exclude_from_weight_decay(var_names=NOT_DECAYED)
    return made


def epoch_of(objective: Trainable, params: Params, data: Data) -> tuple[int, int, int]:
    """Return the size of a batch, and how often an epoch passes through how many images, of each fold."""
    # Folds may differ by some rows, of which an epoch leaves out a random choice.
    images = min(len(data.y_train if part.train is None else part.train) for part in folds.parts(data))
    passes = max(1, math.ceil(objective.least_images_per_epoch / images))
    return min(int(params.get("batch_size", DEFAULT_BATCH_SIZE)), images), passes, images


def train(
    objective: Trainable, params: Params, data: Data, run: Run, programs: Programs | None = None
) -> None:
    """Train one configuration, as `begin` and then `Trial.train` do."""
    with backend.alone():
        trial = begin(objective, params, data, run, programs)
    trial.train()


def begin(
    objective: Trainable, params: Params, data: Data, run: Run, programs: Programs | None = None
) -> Trial:
    """Build and compile the model of a configuration, which uses the process's random generators.

    `programs` are those of a process that trains more than one.

    Raises:
        ObjectiveBrokenError: the model that `build` returned does not fit the data or the checkpoint.
        FreshProcessError: a process that has trained no other has to train it.
    """
    if run.final and data.x_test is None:
        raise ValueError("a final run needs prepare(options, final=True), which loads the test set")
    parts = folds.parts(data)
    batch_size, passes, images = epoch_of(objective, params, data)
    steps = passes * images // batch_size
    programs = programs or Programs(most=0)
    programs.begin()
    stock, judge = trial_model.build(objective, params, data, run)
    saved = 0 if run.state is None else int(run.state["epoch"])
    variation = Variation.of(
        trial_model.augmentation(objective, data), objective.mixing, run.seed, len(data.y_train)
    )
    optimizers = functools.partial(_optimizer, objective, params, run, steps)
    of_epoch = functools.partial(optimizers, max(saved, 1))
    program = program_of(programs, stock, of_epoch, judge, run, variation, batch_size)
    training = Training(
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
    return Trial(
        run=run,
        stock=stock,
        programs=programs,
        program=program,
        optimizers=optimizers,
        training=training,
        states=states,
    )


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A run whose model is built."""

    run: Run
    stock: keras.Model
    """The model of `build`, with the weights to begin with."""
    programs: Programs
    program: Program
    optimizers: Callable[[int], keras.optimizers.Optimizer]
    """Function of an epoch that returns the optimizer of its cycle."""
    training: Training
    states: folds.States

    def train(self) -> None:
        """Train and report each epoch; in a final run also evaluate on the test set and save the model.

        Raises:
            DivergedError: a loss is not finite.
        """
        run, training, states = self.run, self.training, self.states
        for epoch in run.epochs():
            if epoch - 1 in run.restarts:
                self.programs.forget(self.program)
                training = training.restarted(self.optimizers(epoch))
                states.restart()
            metrics = training.epoch(epoch, states)
            run.save(states.captured(epoch))
            listed = " ".join(f"{name}={metric_text(value)}" for name, value in metrics.items())
            run.log(f"epoch {epoch}/{run.total_epochs}: {listed}")
            run.report(**metrics)
        if run.final and states.completed == run.total_epochs:
            run.record(precision=backend.precision(run.device))
            training.finish(self.stock)


def _optimizer(
    objective: Trainable, params: Params, run: Run, steps: int, epoch: int
) -> keras.optimizers.Optimizer:
    """Return the optimizer of an epoch's cycle; `steps` is the number of batches in an epoch."""
    return optimizer_of(objective, params, steps * progress_of(run, epoch).length)


def optimizer_of(objective: Trainable, params: Params, steps: int) -> keras.optimizers.Optimizer:
    """Return an objective's optimizer for `steps` batches in total, with all that its recipe adds to it."""
    made = objective.optimizer(params, steps)
    return averaged(with_factors(made, objective.learning_rate_factors), objective.weight_averaging)
