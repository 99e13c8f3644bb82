"""The state of a Keras model and its optimizers as NumPy arrays, and back."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from hpo.errors import ObjectiveBrokenError
from objectives.base import State


def capture(model: keras.Model, epoch: int) -> dict[str, Any]:
    """Return weights, states of normalizations and dropout, and the optimizers' moments and step counts.

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
    expected = shapes(model)
    found = {
        name: np.shape(value) for name, value in state.items() if name.startswith(("model", "optimizer"))
    }
    if found != expected:
        differing = sorted(key for key in found.keys() | expected if found.get(key) != expected.get(key))
        raise ObjectiveBrokenError(
            f"the checkpoint does not fit the model ({', '.join(differing[:3])}): build the model that it was made"
            " with, or train from epoch 1"
        )
    for name, variable in variables.items():
        variable.assign(state[name])
    return int(state["epoch"])


def shapes(model: keras.Model) -> dict[str, tuple[int, ...]]:
    """Return the names and shapes of all that `capture` takes."""
    return {name: tuple(variable.shape) for name, variable in _variables(model).items()}


def _variables(model: keras.Model) -> dict[str, Any]:
    """Return variables by position, because Keras numbers the names differently for every model in a process."""
    main = getattr(model, "optimizer", None)
    built = model.built or (model.layers and all(layer.built for layer in model.layers))
    # An optimizer creates the variables of its moments when it is built.
    if main is not None and not main.built and built:
        main.build(model.trainable_variables)
    optimizers = [main] if main is not None else []
    # Of a model with a training step of its own, such as a GAN.
    for value in vars(model).values():
        if isinstance(value, keras.optimizers.Optimizer) and all(value is not other for other in optimizers):
            optimizers.append(value)
    parts = [("model", model.variables)]
    parts += [(f"optimizer{index or ''}", found.variables) for index, found in enumerate(optimizers)]
    return {
        f"{part}/{index:04d}": variable
        for part, variables in parts
        for index, variable in enumerate(variables)
    }
