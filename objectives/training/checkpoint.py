"""The state of a Keras model and its optimizer as NumPy arrays, and back."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from hpo.errors import ObjectiveBrokenError
from objectives.base import State


def capture(model: keras.Model, epoch: int) -> dict[str, Any]:
    """Return weights, states of normalizations and dropout, and the optimizer's moments and step count.

    The arrays may share the model's memory, which changes as it trains: `Run.save` copies them.
    """
    arrays = {name: keras.ops.convert_to_numpy(variable) for name, variable in _variables(model).items()}
    return {"epoch": epoch, **arrays}


def restore(model: keras.Model, state: State) -> int:
    """Load a captured state into a newly compiled model; return the number of epochs completed.

    Raises:
        ObjectiveBrokenError: the state belongs to another model.
    """
    variables = _variables(model)
    expected = {name: tuple(variable.shape) for name, variable in variables.items()}
    found = {name: np.shape(value) for name, value in state.items() if name != "epoch"}
    if found != expected:
        differing = sorted(key for key in found.keys() | expected if found.get(key) != expected.get(key))
        raise ObjectiveBrokenError(
            f"the checkpoint does not fit the model that build() returns ({', '.join(differing[:3])}): build the model"
            " that it was made with, or train from epoch 1"
        )
    for name, variable in variables.items():
        variable.assign(state[name])
    return int(state["epoch"])


def _variables(model: keras.Model) -> dict[str, Any]:
    """Return variables by position, because Keras numbers the names differently for every model in a process."""
    # An optimizer creates the variables of its moments when it is built.
    if not model.optimizer.built:
        model.optimizer.build(model.trainable_variables)
    return {
        f"{part}/{index:04d}": variable
        for part, variables in (("model", model.variables), ("optimizer", model.optimizer.variables))
        for index, variable in enumerate(variables)
    }
