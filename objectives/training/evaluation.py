"""Evaluation of a Keras model: every example exactly once, in batches of one shape."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import keras
import numpy as np
from numpy.typing import NDArray

from objectives import backend, saved_model
from objectives.base import Run
from objectives.data.inputs import Inputs, count, each, is_images, slices
from objectives.data.splits import Data
from objectives.recipes.dirac import without_dirac
from objectives.tasks import calibration
from objectives.tasks.intervals import intervals
from objectives.tasks.metrics import METRICS, Floats, Rows
from objectives.tasks.task import MetricFunction, Task
from objectives.training.logits import inputs_of
from objectives.training.losses import ObjectiveLoss, TaskLoss

BATCH_SIZE = 512
"""Largest number of examples in a batch."""
BATCH_VALUES = BATCH_SIZE * 64 * 64 * 3
"""Largest number of values in the inputs of a batch, which bounds its memory whatever the size of the images."""

Forward = Callable[[Inputs], NDArray[Any]]
"""Function that returns a model's raw outputs, rows first."""


@dataclass(frozen=True, kw_only=True)
class Judge:
    """The loss and the metrics by which a run measures a model."""

    task: Task
    loss: TaskLoss | ObjectiveLoss
    reported: Mapping[str, MetricFunction]
    """Metrics that each epoch reports, by their names without `val_`."""
    own: Mapping[str, MetricFunction]
    """Metrics of the objective's own, by the same names."""

    def measure(self, prefix: str, targets: NDArray[Any], raw: NDArray[Any]) -> dict[str, float]:
        """Return loss and reported metrics of raw outputs, computed in float64, with `prefix` before their names."""
        exact = raw.astype(np.float64)
        outputs = self.task.outputs(exact)
        found = {f"{prefix}loss": self.loss.mean(targets, exact)}
        return found | {f"{prefix}{name}": metric(targets, outputs) for name, metric in self.reported.items()}

    def test(self, targets: NDArray[Any], raw: NDArray[Any]) -> dict[str, Any]:
        """Return loss and all metrics of the test set with the intervals over its examples."""
        exact = raw.astype(np.float64)
        outputs = self.task.outputs(exact)
        found: dict[str, tuple[Rows, Callable[..., float]]] = {
            name: (METRICS[name].rows(targets, outputs), METRICS[name].value)
            # The default loss has the value of the log loss, whose name a study may have chosen.
            for name in self.task.metrics(with_log_loss=self.loss.own or "log_loss" in self.reported)
        }
        losses = self.loss.examples(targets, exact)
        if losses.shape[:1] == (len(targets),):
            found["loss"] = ((losses,), _mean)
        values = {f"test_{name}": value(*rows) for name, (rows, value) in found.items()}
        values |= {f"test_{name}": metric(targets, outputs) for name, metric in self.own.items()}
        return {
            "test_loss": float(losses.mean()),
            **values,
            "test_intervals": {f"test_{name}": list(pair) for name, pair in intervals(found).items()},
        }


def _mean(rows: Floats) -> float:
    return float(rows.mean())


def batch_size(inputs: Inputs) -> int:
    """Return the largest number of examples in a batch."""
    values = sum(math.prod(array.shape[1:]) for array in each(inputs).values())
    return max(1, min(BATCH_SIZE, BATCH_VALUES // max(1, values)))


def raw_outputs(forward: Forward, inputs: Inputs) -> NDArray[Any]:
    """Return the model's outputs, rows first; pads the last batch, because another shape would be compiled again."""
    total = count(inputs)
    size = math.ceil(total / math.ceil(total / batch_size(inputs)))
    outputs = []
    for start in range(0, total, size):
        batch = slices(inputs, slice(start, min(start + size, total)))
        outputs.append(forward(_padded(batch, size))[: count(batch)])
    return np.concatenate(outputs)


def _padded(batch: Inputs, size: int) -> Inputs:
    missing = size - count(batch)
    if not missing:
        return batch
    if isinstance(batch, dict):
        return {name: _with_zeros(array, missing) for name, array in batch.items()}
    return _with_zeros(batch, missing)


def _with_zeros(array: NDArray[Any], rows: int) -> NDArray[Any]:
    return np.concatenate([array, np.zeros((rows, *array.shape[1:]), array.dtype)])


def finish(model: keras.Model, data: Data, judge: Judge, run: Run, flip: bool = False) -> None:
    """Evaluate on the test set, once, record the results, and save the model if the run has an output folder.

    With `flip`, also record loss and metrics of the mean of each image's raw outputs and its mirror image's, as
    `test_…_flip_averaged` (test-time augmentation; Krizhevsky et al., 2012, used crops).
    """
    assert data.x_test is not None
    assert data.y_test is not None
    forward = backend.current().forward(model)
    raw = raw_outputs(forward, data.x_test)
    records = judge.task.records(data.y_test, judge.task.outputs(raw.astype(np.float64)))
    run.record(
        task=judge.task.name,
        **judge.test(data.y_test, raw),
        **records,
        classes=list(data.classes),
        input=_described(data.x_test),
        examples={
            "train": judge.task.distribution(data.y_train),
            "test": judge.task.distribution(data.y_test),
        },
        n_test=len(data.y_test),
        n_train=len(data.y_train),
        parameters=int(model.count_params()),
    )
    if flip and is_images(data.x_test):
        # Batch by batch: there may be more images than fit into memory.
        mirrored = raw_outputs(
            lambda batch: forward(np.ascontiguousarray(cast("NDArray[Any]", batch)[:, :, ::-1])), data.x_test
        )
        averaged = judge.measure("test_", data.y_test, (raw.astype(np.float64) + mirrored) / 2)
        run.record(**{f"{name}_flip_averaged": value for name, value in averaged.items()})
    if run.output is not None:
        if is_images(data.x_test) and "wrong" in records:
            run.record(
                wrong_images=[calibration.png(data.x_test[wrong["index"]]) for wrong in records["wrong"]]
            )
        saved_model.save(exported(model, judge.task), run)


def exported(model: keras.Model, task: Task) -> keras.Model:
    """Return the model for use: raw inputs, probabilities or values as outputs, no loss or optimizer."""
    without_dirac(model)
    taken = any(layer.name == "probabilities" for layer in model.layers)
    outputs = task.exported(model.outputs[0], None if taken else "probabilities")
    return keras.Model(inputs_of(model), outputs, name=model.name)


def _described(inputs: Inputs) -> dict[str, Any]:
    """Return shape and type of the rows of inputs, by name where there are several."""
    shapes = {name: list(array.shape[1:]) for name, array in each(inputs).items()}
    types = {
        name: "string" if array.dtype.kind == "U" else str(array.dtype)
        for name, array in each(inputs).items()
    }
    if isinstance(inputs, dict):
        return {"shape": shapes, "dtype": types}
    return {"shape": shapes[""], "dtype": types[""]}
