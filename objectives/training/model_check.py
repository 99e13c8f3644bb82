"""Checks of a model against the data, before it trains."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from hpo.errors import ObjectiveBrokenError
from objectives import backend
from objectives.data.inputs import Inputs, each
from objectives.data.splits import Data
from objectives.tasks.table import task_of

Shape = tuple[int | None, ...]


def check(model: Any, data: Data) -> None:
    """Check that the model can be trained on this data.

    Raises:
        ObjectiveBrokenError: it is not a Keras model from the inputs of the data to the outputs of their task.
    """
    if not isinstance(model, keras.Model) or len(getattr(model, "outputs", None) or ()) != 1:
        raise ObjectiveBrokenError(
            "build() must return a functional or sequential keras.Model with an Input and one output"
        )
    _check_inputs(model, data.x_train)
    task_of(data).check_model(model.output_shape[1:])


def _check_inputs(model: keras.Model, inputs: Inputs) -> None:
    arrays, found = each(inputs), {tensor.name: tensor for tensor in model.inputs}
    if not isinstance(inputs, dict):
        if len(found) != 1:
            raise ObjectiveBrokenError(
                f"build() returned a model with {len(found)} inputs ({', '.join(found)}), but the data has one: build a"
                " model with one keras.Input, or let the data function return a dict of arrays by these names"
            )
        found = {"": next(iter(found.values()))}
    elif found.keys() != arrays.keys():
        raise ObjectiveBrokenError(
            f"build() returned a model with the inputs {', '.join(found)}, but the data has {', '.join(arrays)}: name"
            " each keras.Input as its array, as in keras.Input(data.input_shape[name], name=name)"
        )
    else:
        _check_structure(getattr(model, "_inputs_struct", None))
    for name, array in arrays.items():
        kind = "images" if array.ndim == 4 else "inputs"
        label = f" {name!r}" if name else ""
        wanted: Shape = tuple(found[name].shape[1:])
        if not _fits(wanted, array.shape[1:]):
            raise ObjectiveBrokenError(
                f"build() returned a model for {kind}{label} of {wanted}, but the data has {array.shape[1:]}: start it"
                f" with keras.Input(data.input_shape{f'[{name!r}]' if name else ''})"
            )
        text = array.dtype.kind == "U"
        kind_of_data = "string" if text else str(array.dtype)
        if text != (found[name].dtype == "string"):
            raise ObjectiveBrokenError(
                f"build() returned a model for {kind}{label} of type {found[name].dtype}, but the data has"
                f" {kind_of_data}: use keras.Input(…, dtype={kind_of_data!r})"
            )
        if text and backend.name() != "tensorflow":
            raise ObjectiveBrokenError(
                f"the data has strings, which Keras takes on TensorFlow alone, not on {backend.name()}: let the data"
                " function return whole numbers (token ids)"
            )


def _check_structure(given: Any) -> None:
    """Check that Keras finds each input by the name of its array: the keys of a dict come before names of inputs."""
    if isinstance(given, dict):
        wrong = [name for name, tensor in given.items() if getattr(tensor, "name", None) != name]
        if wrong:
            raise ObjectiveBrokenError(
                f"build() returned a model whose dict of inputs has another input under {wrong[0]!r}: give"
                " keras.Model a dict in which each key is the name of its keras.Input"
            )
    elif isinstance(given, list | tuple) and any(isinstance(one, dict | list | tuple) for one in given):
        raise ObjectiveBrokenError(
            "build() returned a model with nested inputs: give keras.Model a list or dict of its inputs"
        )


def _fits(wanted: Sequence[int | None], shape: Sequence[int]) -> bool:
    """Return whether rows of this shape fit an input; Keras adds or drops a last axis of one."""
    for given in (tuple(shape), (*shape, 1), tuple(shape[:-1]) if shape and shape[-1] == 1 else tuple(shape)):
        if len(given) == len(wanted) and all(
            size in (None, known) for size, known in zip(wanted, given, strict=True)
        ):
            return True
    return False
