"""The range of a model's outputs, whatever its weights are: it shows probabilities that no layer of Keras names."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from objectives.data.inputs import Inputs, count, each
from objectives.tasks.metrics import Floats
from objectives.tasks.task import Range

_ROWS = 4
_FACTORS = (0.0, 1.0, 3.0, 1.0, 3.0, 1.0, 3.0, 1.0, 3.0)
"""Deviations of the random changes to weights, in parts of their own: the first draw has the weights of `build`."""
_LAST_FACTORS = (1e3, 1e8, 1e3, 1e8)
"""Factors of the last weights in further draws: what is not bounded becomes large."""
_LAST = 2
"""Number of the last weights: a kernel and a bias."""
_LEAST_DRAWS = 5
"""Draws that need finite outputs, or nothing is concluded."""
_LEAST_SPREAD = 0.1
"""Difference of the highest and lowest output below which nothing is concluded: they are dead."""


def range_of(model: keras.Model, inputs: Inputs) -> Range | None:
    """Return the range that the outputs of a model keep for random weights; None if they keep none.

    A softmax has outputs that are not negative and sum to one in each row, a sigmoid those from 0 to 1, a tanh
    those from -1 to 1. Logits leave each of these ranges with one draw of the weights or another. Weights and random
    states are restored.
    """
    if not model.trainable_variables:
        return None
    rows = _sample(inputs)
    kept = [(variable, _numpy(variable)) for variable in model.variables]
    try:
        drawn = list(_outputs(model, rows))
    except Exception:  # noqa: BLE001 - a model that fails for random weights may train: nothing is concluded
        return None
    finally:
        for variable, value in kept:
            variable.assign(value)
    half = keras.backend.standardize_dtype(model.outputs[0].dtype) in ("float16", "bfloat16")
    return _range(drawn[: len(_FACTORS)], drawn[len(_FACTORS) :], 0.02 if half else 0.001)


def _range(drawn: Sequence[Floats], enlarged: Sequence[Floats], tolerance: float) -> Range | None:
    finite, large = (
        [found for found in outputs if np.isfinite(found).all()] for outputs in (drawn, enlarged)
    )
    if len(finite) < _LEAST_DRAWS:
        return None
    outputs = np.concatenate([*finite, *large])
    low, high = outputs.min(), outputs.max()
    if high - low < _LEAST_SPREAD:
        # A softmax over one output is always 1.
        return "softmax" if outputs.shape[1] == 1 and np.abs(outputs - 1).max() <= tolerance else None
    within = low >= -tolerance and high <= 1 + tolerance
    if within and outputs.shape[1] > 1 and np.abs(outputs.sum(axis=1) - 1).max() <= tolerance:
        return "softmax"
    if not large:
        # Small outputs may have any range.
        return None
    if within:
        return "sigmoid"
    if low >= 0:
        return "never negative"
    if high <= 0:
        return "never positive"
    return "tanh" if max(-low, high) <= 1 + tolerance else None


def _sample(inputs: Inputs) -> Inputs:
    indices = np.unique(np.linspace(0, count(inputs) - 1, _ROWS).astype(np.intp))
    found = {name: array[indices] for name, array in each(inputs).items()}
    return found if isinstance(inputs, dict) else found[""]


def _outputs(model: keras.Model, rows: Inputs) -> Iterator[Floats]:
    """Yield the outputs (rows, outputs) for each draw of the weights."""
    rng = np.random.default_rng(0)
    begun: list[tuple[Any, NDArray[Any]]] = [
        (variable, _numpy(variable)) for variable in model.trainable_variables
    ]
    tensors = keras.tree.map_structure(keras.ops.convert_to_tensor, rows)
    for factor, last in (*((one, 1.0) for one in _FACTORS), *((1.0, one) for one in _LAST_FACTORS)):
        for number, (variable, value) in enumerate(begun):
            deviation = factor * max(float(np.sqrt(np.mean(np.square(value, dtype=np.float64)))), 0.05)
            drawn = value + rng.normal(0, deviation, value.shape)
            variable.assign((drawn * (last if number >= len(begun) - _LAST else 1.0)).astype(value.dtype))
        yield _numpy(model(tensors, training=False)).astype(np.float64)


def _numpy(tensor: Any) -> NDArray[Any]:
    found: NDArray[Any] = np.array(keras.ops.convert_to_numpy(tensor))
    return found
