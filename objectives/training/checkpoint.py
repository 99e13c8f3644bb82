"""All that a Keras model and its optimizer have learnt, as NumPy arrays, and back."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from hpo.errors import ObjectiveBrokenError
from objectives.base import State


def capture(model: keras.Model, epoch: int) -> dict[str, Any]:
    """Weights, states of normalizations and dropout, and the optimizer's moments and count of steps."""
    state: dict[str, Any] = {"epoch": epoch}
    for name, variable in _variables(model).items():
        # A copy: the backend may go on to write into the memory that it lends here.
        state[name] = np.array(keras.ops.convert_to_numpy(variable))
    return state


def restore(model: keras.Model, state: State) -> int:
    """Put a captured state into a freshly built and compiled model; returns the epochs it had completed.

    Raises:
        ObjectiveBrokenError: the model is another one than the state was taken from.
    """
    variables = _variables(model)
    expected = {name: tuple(variable.shape) for name, variable in variables.items()}
    found = {name: np.shape(value) for name, value in state.items() if name != "epoch"}
    if found != expected:
        differing = sorted(key for key in found.keys() | expected if found.get(key) != expected.get(key))
        raise ObjectiveBrokenError(
            f"the checkpoint does not fit the model that build() returns ({', '.join(differing[:3])}): "
            "the objective's code has changed since the study began"
        )
    for name, variable in variables.items():
        variable.assign(state[name])
    return int(state["epoch"])


def _variables(model: keras.Model) -> dict[str, Any]:
    """By position: Keras numbers the names anew for every model in a process."""
    # An optimizer has no variables for its moments before it knows the weights.
    if not model.optimizer.built:
        model.optimizer.build(model.trainable_variables)
    return {
        f"{part}/{index:04d}": variable
        for part, variables in (("model", model.variables), ("optimizer", model.optimizer.variables))
        for index, variable in enumerate(variables)
    }
