"""The training loop of Keras objectives: the same on every backend, and exact when it is resumed.

Everything random follows from the run's seed and the epoch: the order of the images, the
augmentation of a batch, and, through the state of Keras' seed generators, dropout. So a run that was
interrupted after any epoch gives on a CPU the very numbers of one that ran through.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Protocol

import keras
import numpy as np

from hpo.errors import ObjectiveBrokenError
from objectives import backend
from objectives.augment import Augmentation
from objectives.backend import kernels
from objectives.base import DataOptions, DivergedError, Params, Run
from objectives.data import arrays, datasets
from objectives.data.splits import Data, split
from objectives.training import batches, checkpoint, evaluation, layers
from objectives.training.optimizers import FusedAdam, FusedSGD

DEFAULT_BATCH_SIZE = 128
WARMUP_FRACTION = 0.1
"""Share of all steps in which the learning rate rises to its peak."""
MOMENTUM = 0.9
CHUNK_SECONDS = 0.5
"""How long the backend may train between two returns to Python, where progress is told and a run is held."""
CHUNK_STEPS = 64
"""Most batches of one chunk: what is gathered for them takes memory."""
NOT_DECAYED = ("bias", "gamma", "beta")
"""Names of variables without weight decay: biases, and the scales and offsets of normalizations."""


class Trainable(Protocol):
    """The parts of a `KerasObjective` that the loop uses."""

    augmentation: ClassVar[Augmentation | None]
    label_smoothing: ClassVar[float]

    def build(self, params: Params, data: Data) -> keras.Model:
        """Return the model, not compiled."""

    def optimizer(self, params: Params, steps: int) -> keras.optimizers.Optimizer:
        """Return the optimizer for `steps` batches in total."""


def load(
    source: str | Callable[[], Any] | None, classes: Sequence[str] | None, options: DataOptions, final: bool
) -> Data:
    """An objective's data, split; nothing here starts a backend, so that trainers can be forked after it."""
    names = tuple(classes) if classes is not None else None
    if isinstance(source, str):
        names = names or datasets.class_names(source)
        loaded = datasets.load(source, options.data_dir, test=final)
    elif callable(source):
        loaded = arrays.call(source, len(names) if names else None, test=final)
    else:
        raise ObjectiveBrokenError("dataset must be a data set's name or a function that returns arrays")
    return split(loaded, options, final, names)


def optimizer(params: Params, steps: int) -> keras.optimizers.Optimizer:
    """SGD with Nesterov momentum, or Adam, on one cycle: linear warm-up, then a cosine to zero.

    `weight_decay` means the same for both, as in "Decoupled weight decay regularization" (Loshchilov
    and Hutter, 2019) and as Keras implements it: each step takes learning rate × weight decay of a
    weight away, outside the gradient. Biases and normalizations are exempt. The schedule follows
    the optimizer's own count of steps, which is part of the checkpoint.
    """
    warmup = max(1, round(steps * WARMUP_FRACTION))
    peak = float(params.get("learning_rate", 1e-3))
    # The first step of a warm-up is at zero: a run that has no other would train nothing.
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
            f"optimizer {kind!r} is neither 'sgd' nor 'adam': override KerasObjective.optimizer for others"
        )
    made.exclude_from_weight_decay(var_names=NOT_DECAYED)
    return made


def cross_entropy(smoothing: float) -> Callable[[Any, Any], Any]:
    """Cross-entropies (n,) in nats of integer labels (n,) and logits (n, classes), whose mean Keras takes.

    Every logit must be finite. With `smoothing` a label is 1 - smoothing of its class and an equal part of smoothing
    of every class, its own among them ("Rethinking the Inception architecture", Szegedy et al., 2015, section 7).
    """

    def loss(labels: Any, logits: Any) -> Any:
        classes = logits.shape[-1]
        # Keras hands labels over in the logits' type.
        labels = keras.ops.cast(keras.ops.reshape(labels, [-1]), "int32")
        targets = keras.ops.one_hot(labels, classes, dtype=logits.dtype)
        if smoothing:
            targets = (1.0 - smoothing) * targets + smoothing / classes
        # Not Keras' own: TensorFlow's deterministic form of that has 150 operations with its gradient.
        return -keras.ops.sum(targets * keras.ops.log_softmax(logits, axis=-1), axis=-1)

    return loss


def train(objective: Trainable, params: Params, data: Data, run: Run) -> None:
    """Train one configuration; in a final run record what the test set shows and save the model.

    Raises:
        DivergedError: a loss is not finite.
        ObjectiveBrokenError: `build` returned a model that cannot be trained on this data.
    """
    if run.final and data.x_test is None:
        raise ValueError("a final run needs prepare(options, final=True), which loads the test set")
    batch_size = min(int(params.get("batch_size", DEFAULT_BATCH_SIZE)), len(data.x_train))
    steps = len(data.x_train) // batch_size
    stock = objective.build(params, data)
    evaluation.check(stock, data)
    precision = backend.precision(run.device)
    model = layers.accelerated(stock, precision)
    if model is stock:
        run.log(
            "a layer has no configuration to be copied by: training in float32 with the layers as they are"
        )
    model.compile(
        objective.optimizer(params, steps * run.total_epochs),
        loss=cross_entropy(objective.label_smoothing),
        metrics=["accuracy"],
        jit_compile=False if run.device.gpu is None else "auto",
    )
    completed = checkpoint.restore(model, run.state) if run.state is not None else 0
    advance = batches.advancing(model, data, objective.augmentation, run.device)
    logits = backend.forward(model)
    for epoch in run.epochs():
        began = time.perf_counter()
        model.reset_metrics()
        metrics = _train_epoch(advance, len(data.x_train), batch_size, epoch, run)
        metrics["images_per_second"] = steps * batch_size / (time.perf_counter() - began)
        metrics["learning_rate"] = float(keras.ops.convert_to_tensor(model.optimizer.learning_rate))
        if not run.final:
            measured = evaluation.evaluate(logits, data.x_valid, data.y_valid)
            metrics |= {"val_loss": measured.loss, "val_accuracy": measured.accuracy}
        completed = epoch
        run.save(checkpoint.capture(model, completed))
        run.report(**metrics)
    if run.final and completed == run.total_epochs:
        run.record(precision=precision)
        layers.copy_variables(model, stock)
        # Where mirror images were trained on, a mirrored test image is one more look at the same thing.
        flip = objective.augmentation is not None and objective.augmentation.flip
        evaluation.finish(stock, data, run, flip)


def _train_epoch(
    advance: batches.Advance, images: int, batch_size: int, epoch: int, run: Run
) -> dict[str, float]:
    """One pass over the shuffled images; those that fill no whole batch wait for another epoch's order.

    Several batches are handed over at a time, as many as take about `CHUNK_SECONDS`. How many changes no
    number: each batch is trained on by itself, in its order.
    """
    order = np.random.default_rng([run.seed, epoch]).permutation(images)
    steps = len(order) // batch_size
    metrics: dict[str, float] = {}
    done, size = 0, 1
    while done < steps:
        began = time.perf_counter()
        chunk = range(done, min(done + size, steps))
        chosen = order[chunk.start * batch_size : chunk.stop * batch_size].reshape(-1, batch_size)
        metrics = advance(chosen, [np.random.default_rng([run.seed, epoch, step]) for step in chunk])
        done = chunk.stop
        _must_be_finite(metrics["loss"], f"loss of epoch {epoch}, batch {done} of {steps}")
        run.tick(done, steps, done * batch_size)
        seconds_per_step = (time.perf_counter() - began) / len(chunk)
        size = max(1, min(2 * size, CHUNK_STEPS, int(CHUNK_SECONDS / seconds_per_step)))
    return {"loss": metrics["loss"], "accuracy": metrics["accuracy"]}


def _must_be_finite(value: float, what: str) -> None:
    if not math.isfinite(value):
        raise DivergedError(f"the {what} is {value}: try a lower learning rate")
