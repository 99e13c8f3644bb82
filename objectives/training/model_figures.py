"""Figures of a Keras model that has not trained yet."""

from __future__ import annotations

import statistics
import time
from collections.abc import Collection
from typing import Any

import keras
import numpy as np

from objectives import backend
from objectives.base import Run
from objectives.runs.figures import LATENCY, MODEL_BYTES, PARAMETERS

WARM_UP, TIMED = 5, 50
"""Predictions before those that are timed, which also compile the model, and predictions that are timed."""
MOST_SECONDS = 2.0
"""Time after which no further prediction is timed, once there are a few."""
FEWEST = 5


def measure(run: Run, model: keras.Model) -> None:
    """Give a run the figures of its model that the study asks for.

    Raises:
        Infeasible: one violates a constraint of the study.
    """
    if run.figures and not run.final:
        run.measure(**of_model(model, run.figures))


def of_model(model: keras.Model, names: Collection[str]) -> dict[str, float]:
    """Return those of the figures that can be measured."""
    found: dict[str, float] = {}
    if PARAMETERS in names and model.built:
        found[PARAMETERS] = float(model.count_params())
    if MODEL_BYTES in names and model.built:
        found[MODEL_BYTES] = float(sum(keras.ops.convert_to_numpy(weight).nbytes for weight in model.weights))
    if LATENCY in names and (example := _example(model)) is not None:
        found[LATENCY] = _latency(model, example)
    return found


def _latency(model: keras.Model, example: Any) -> float:
    """Return the median time in milliseconds in which a model predicts one example, on the device of the run."""
    # A backend's own function returns one array.
    forward = backend.current().forward(model) if len(model.outputs) == 1 else model.predict_on_batch
    for _ in range(WARM_UP):
        forward(example)
    seconds: list[float] = []
    began_at = time.perf_counter()
    while len(seconds) < TIMED and (len(seconds) < FEWEST or time.perf_counter() - began_at < MOST_SECONDS):
        called_at = time.perf_counter()
        forward(example)
        seconds.append(time.perf_counter() - called_at)
    return 1000 * statistics.median(seconds)


def _example(model: keras.Model) -> Any:
    """Return one example of zeros; None if the model does not say which shape its inputs have."""
    inputs = getattr(model, "inputs", None)
    if not inputs or any(None in tensor.shape[1:] for tensor in inputs):
        return None
    return keras.tree.map_structure(_zeros, model.input)


def _zeros(tensor: Any) -> Any:
    shape = (1, *tensor.shape[1:])
    return np.full(shape, "") if tensor.dtype == "string" else np.zeros(shape, tensor.dtype)
