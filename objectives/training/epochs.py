"""One epoch of a run: training on all its batches, and validation."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace

import keras
import numpy as np
from numpy.typing import NDArray

from objectives import backend
from objectives.augment import Progress
from objectives.base import Run
from objectives.data import inputs
from objectives.data.splits import Data
from objectives.errors import DivergedError
from objectives.training import batches, evaluation, folds, layers
from objectives.training.averages import AveragedWeights
from objectives.training.batches import Variation
from objectives.training.compilation import compile_model
from objectives.training.evaluation import Judge
from objectives.training.folds import Part

CHUNK_SECONDS = 0.5
"""Longest time in seconds between two returns to Python, where progress is reported and a run can be paused."""
CHUNK_STEPS = 64
"""Largest number of batches in one chunk, whose images are all in memory."""


def progress_of(run: Run, epoch: int) -> Progress:
    """Return the place of an epoch in the run, and in the cycle of the schedule that it belongs to."""
    ends = [*sorted(run.restarts), run.total_epochs]
    last = next(end for end in ends if epoch <= end)
    begun = max((end for end in ends if end < epoch), default=0)
    return Progress(epoch=epoch, place=epoch - begun, length=last - begun)


@dataclass
class Pace:
    """The number of batches of the next chunk, from epoch to epoch: the first chunk of a run has one."""

    size: int = 1

    def note(self, batches: int, seconds: float) -> None:
        """Note the time that a chunk took."""
        self.size = max(1, min(2 * self.size, CHUNK_STEPS, int(CHUNK_SECONDS * batches / seconds)))


@dataclass(frozen=True, kw_only=True)
class Training:
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
    pace: Pace = field(default_factory=Pace)

    def restarted(self, optimizer: keras.optimizers.Optimizer) -> Training:
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
        progress = progress_of(run, epoch)
        steps = len(order) // batch_size
        begun: deque[tuple[range, Mapping[str, float]]] = deque()
        next_step, began_at = 0, time.perf_counter()
        while next_step < steps or begun:
            if next_step < steps:
                chunk = range(next_step, min(next_step + self.pace.size, steps))
                chosen = order[chunk.start * batch_size : chunk.stop * batch_size].reshape(-1, batch_size)
                generators = [np.random.default_rng([run.seed, epoch, step]) for step in chunk]
                begun.append((chunk, self.advance(chosen, generators, progress)))
                next_step = chunk.stop
                if len(begun) <= backend.current().ahead:
                    continue
            chunk, metrics = begun.popleft()
            done = chunk.stop
            _must_be_finite(metrics["loss"], f"loss of epoch {epoch}, batch {done} of {steps}")
            completed = fold * steps + done
            run.tick(completed, len(self.parts) * steps, completed * batch_size)
            self.pace.note(len(chunk), time.perf_counter() - began_at)
            began_at = time.perf_counter()
        backend.current().collect(self.model)
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
        with backend.alone() if self.judge.own else nullcontext():
            return self.judge.measure("val_", y, raw)


def _must_be_finite(value: float, description: str) -> None:
    if not math.isfinite(value):
        raise DivergedError(f"the {description} is {value}: try a lower learning rate")
