"""The model of a run without the activation at its end, with the task, loss and metrics by which it is judged."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Protocol

import keras
import numpy as np

from hpo.errors import ObjectiveBrokenError
from objectives.augment import Augmentation, Mixing
from objectives.base import Params, Run
from objectives.data.splits import Data
from objectives.recipes import declarations
from objectives.recipes.averaging import Averaging
from objectives.tasks import choice
from objectives.tasks.metrics import METRICS, Floats
from objectives.tasks.table import task_of
from objectives.tasks.task import ClassWeight, MetricFunction, Range, Task
from objectives.training import losses, model_check
from objectives.training.evaluation import Judge
from objectives.training.logits import as_logits, ends_in_weights, logarithms, probabilities_of
from objectives.training.losses import OwnLoss
from objectives.training.output_range import range_of
from objectives.training.sampling import Sampling


class Trainable(Protocol):
    """The parts of a `KerasObjective` that the training loop uses."""

    metric: ClassVar[str]
    metrics: ClassVar[Sequence[str | MetricFunction] | None]
    loss: ClassVar[OwnLoss]
    class_weight: ClassVar[ClassWeight]
    sampling: ClassVar[Sampling]
    label_smoothing: ClassVar[float]
    least_images_per_epoch: ClassVar[int]
    mixing: ClassVar[Mixing | None]
    weight_averaging: ClassVar[Averaging]
    learning_rate_factors: ClassVar[Mapping[str, float]]

    def build(self, params: Params, data: Data) -> keras.Model:
        """Return the model, not compiled."""

    def augment(self, data: Data) -> Augmentation | None:
        """Return the random changes to the training images."""

    def optimizer(self, params: Params, steps: int) -> keras.optimizers.Optimizer:
        """Return the optimizer for `steps` batches in total."""


def build(
    objective: Trainable, params: Params, data: Data, run: Run | None = None, metric: str | None = None
) -> tuple[keras.Model, Judge]:
    """Return the model of a configuration, which gives raw outputs, and the judge of its task.

    `metric` is that of the study if there is no run.

    Raises:
        ObjectiveBrokenError: model, loss, metrics or options do not fit the data or one another.
    """
    task = task_of(data)
    model = objective.build(params, data)
    model_check.check(model, data)
    model, kind = _without_activation(model, task, type(objective).loss is not None, run)
    # Accessed through the class, so that plain functions do not become methods.
    cls: Any = type(objective)
    if cls.loss is None:
        task.standardize(model)
    loss = losses.chosen(task, cls.loss, objective.label_smoothing, objective.class_weight, kind is not None)
    _check_sampling(objective.sampling, task)
    study_metric = getattr(run, "metric", None) or metric or objective.metric
    own = choice.own_functions(cls.metrics)
    figures = getattr(run, "figures", ())
    reported: dict[str, MetricFunction] = {
        name: own.get(name) or METRICS[name]
        for name in choice.reported(cls.metrics, task, study_metric, data.output_size, figures)
    }
    return model, Judge(task=task, loss=loss, reported=reported, own=own)


def augmentation(objective: Trainable, data: Data) -> Augmentation | None:
    """Return the augmentation of an objective, whose changes to examples are checked.

    Raises:
        ObjectiveBrokenError: changes do not apply to the data, such as those of images.
    """
    found = objective.augment(data)
    declarations.check(objective, found, data.x_train, data.task)
    return found


def check(objective: Trainable, params: Params, data: Data, metric: str) -> None:
    """Build a configuration and compute its loss and metrics of made outputs, without training.

    `metric` is that of the study.

    Raises:
        ObjectiveBrokenError: it can never train on this data.
        Exception: as `build`.
    """
    model, judge = build(objective, params, data, metric=metric)
    augmentation(objective, data)
    wanted = metric.removeprefix(choice.PREFIX)
    if wanted in METRICS and wanted not in judge.reported and metric.startswith(choice.PREFIX):
        above = METRICS[wanted].classes_above
        raise ObjectiveBrokenError(
            f"{metric} needs more than {above} classes, and the data has {data.output_size}: choose another metric"
        )
    if judge.loss.own:
        _check_loss(judge, data.y_train[:2], model.output_shape[1:])
    # All validation rows, because a metric may need an example of each class.
    targets = data.y_train[data.folds[0][1]] if data.folds else data.y_valid
    outputs = judge.task.outputs(_made_outputs(len(targets), model.output_shape[1:]))
    for name, function in judge.own.items():
        _check_metric(name, function, targets, outputs)


def _without_activation(
    model: keras.Model, task: Task, own_loss: bool, run: Run | None
) -> tuple[keras.Model, str | None]:
    """Return the model without a softmax or sigmoid at its end, and the kind of the one that it had.

    Probabilities that no layer of Keras computes become their logits.
    """
    if task.activation is None:
        task.check_end(probabilities_of(model) or _range(model, task.data))
        return model, None
    stripped, kind = as_logits(model)
    line = f"the {kind} at the end of the model is taken off, because training needs logits"
    if kind is None:
        found = _range(model, task.data)
        if not own_loss:
            task.check_end(found)
        if found in ("softmax", "sigmoid"):
            # Those of the sigmoid that the exported model of labels gets, which returns the same outputs.
            stripped = logarithms(model, "sigmoid" if task.activation == "sigmoid" else found)
            kind = found
            line = f"the outputs of the model are those of a {kind}, so that it is trained on their logits"
    if kind is not None and run is not None:
        run.log(f"{line}; the exported model gets a {task.activation}")
    return stripped, kind


def _range(model: keras.Model, data: Data) -> Range | None:
    return None if ends_in_weights(model) else range_of(model, data.x_train)


def _check_sampling(sampling: Sampling, task: Task) -> None:
    if sampling == "balanced" and not task.balances:
        raise ObjectiveBrokenError(
            f'sampling = "balanced" draws each class equally often and does not apply to task {task.name!r}: leave it'
            " out"
        )


def _made_outputs(rows: int, shape: Sequence[int]) -> Floats:
    return np.random.default_rng(0).normal(size=(rows, *shape))


def _check_loss(judge: Judge, targets: Any, shape: Sequence[int]) -> None:
    raw = _made_outputs(len(targets), shape)
    try:
        found = [judge.loss.mean(targets, outputs) for outputs in (0.0 * raw, raw, -raw)]
        judge.loss.training(*map(keras.ops.convert_to_tensor, (targets, raw.astype(np.float32))))
    except ObjectiveBrokenError:
        raise
    except Exception as exc:
        raise ObjectiveBrokenError(
            f"the loss fails for outputs of {tuple(shape)} and targets of task {judge.task.name!r} with"
            f" {type(exc).__name__} ({_line(exc)}): see which form of targets a loss gets in docs/how-to/tasks.md"
        ) from exc
    if math.isnan(found[0]):
        raise ObjectiveBrokenError(
            "the loss of outputs of zero is not a number: check its logarithms and divisions"
        )
    if found[0] == found[1] == found[2]:
        raise ObjectiveBrokenError(
            f"the loss is {found[0]:g} for outputs of {tuple(shape)} whatever they are, so that nothing is learned:"
            " choose a loss for this task"
        )


def _check_metric(name: str, metric: Callable[..., Any], targets: Any, outputs: Any) -> None:
    try:
        float(metric(targets, outputs))
    except Exception as exc:
        raise ObjectiveBrokenError(
            f"the metric {name} fails for outputs of {outputs.shape} with {type(exc).__name__} ({_line(exc)}): return a"
            " number of targets and outputs, which are NumPy arrays"
        ) from exc


def _line(exc: Exception, most: int = 200) -> str:
    line = " ".join(str(exc).split())
    return line if len(line) <= most else line[:most] + "…"
