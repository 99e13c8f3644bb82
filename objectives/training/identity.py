"""The identity of a traced program: all that is traced into it, as one text; equal texts mean equal programs.

It is read from the objects that a run has just made, not from the parameters that they were made of: code of yours may
use a parameter in any way. Only what is known to be complete counts: layers, optimizers and losses of Keras and of this
package, by all their settings. The settings that a traced step reads as inputs are left out. A model with anything else
in it has no identity, so that its program serves one run alone.
"""

from __future__ import annotations

import hashlib
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from types import FunctionType, MethodType, ModuleType
from typing import Any

import keras
import numpy as np

from objectives.training.layers import reads_rate
from objectives.training.optimizers import FusedAdam, FusedSGD

_OWN = ("keras.", "objectives.backend.", "objectives.recipes.", "objectives.tasks.", "objectives.training.")
"""Beginnings of the names of modules whose functions and classes do nothing but what their settings say."""

_NAMES = """
InputLayer Dense Embedding Rescaling Resizing Normalization
Conv1D Conv2D Conv3D Conv1DTranspose Conv2DTranspose DepthwiseConv1D DepthwiseConv2D SeparableConv1D SeparableConv2D
BatchNormalization LayerNormalization GroupNormalization Activation ReLU LeakyReLU ELU PReLU Softmax Identity
Dropout SpatialDropout1D SpatialDropout2D GaussianNoise GaussianDropout
Flatten Reshape Permute RepeatVector ZeroPadding1D ZeroPadding2D Cropping1D Cropping2D UpSampling1D UpSampling2D
MaxPooling1D MaxPooling2D AveragePooling1D AveragePooling2D
GlobalMaxPooling1D GlobalMaxPooling2D GlobalAveragePooling1D GlobalAveragePooling2D
Add Subtract Multiply Average Maximum Minimum Concatenate Dot
"""
_LAYERS = frozenset(getattr(keras.layers, name) for name in _NAMES.split())
"""Layers whose configuration says all that they compute; a subclass of one may compute anything."""
_OPTIMIZERS = (FusedAdam, FusedSGD)


def _code_of(cls: type) -> dict[str, Any]:
    """Return the functions of a class by their names."""
    kinds = (property, classmethod, staticmethod)
    return {name: one for name, one in vars(cls).items() if callable(one) or isinstance(one, kinds)}


_CODE = {
    base: _code_of(base)
    for cls in (*_LAYERS, *_OPTIMIZERS)
    for base in cls.__mro__
    if base.__module__.startswith("keras.")
}
"""Code of the classes of Keras that a program is made of, before code of yours has changed any."""
_NOT_COMPARED = frozenset(
    {
        *("_variables", "_trainable_variables", "_trainable_variables_indices", "_iterations", "_tracker"),
        *("momentums", "_momentums", "_velocities", "_distribution_strategy", "name"),
        *("_decay", "_schedule", "_momentum_input"),
    }
)
"""Attributes of optimizers that are reset, read as inputs, or compared in another way."""


class UnknownError(Exception):
    """An object may do more than can be compared."""


def identity(model: keras.Model, optimizer: keras.optimizers.Optimizer, *settings: Any) -> str | None:
    """Return the identity of the program that trains a model, not yet compiled; None if it has none.

    `settings` are the others that are traced into it, such as the loss.
    """
    try:
        return compared(model, optimizer, *settings)
    except UnknownError:
        return None


def compared(model: keras.Model, optimizer: keras.optimizers.Optimizer, *settings: Any) -> str:
    """Return the identity of the program that trains a model.

    Raises:
        UnknownError: it has none; the message names the part that cannot be compared.
    """
    try:
        _check_code()
        found = (_model(model, outermost=True), _optimizer(optimizer), _canonical(settings))
    except UnknownError:
        raise
    # A setting may be any object, whose class may raise anything.
    except Exception as exc:
        raise UnknownError("a setting of the model, the optimizer or the loss") from exc
    return hashlib.blake2b(repr(found).encode(), digest_size=16).hexdigest()


def rates(model: keras.Model) -> list[keras.layers.Dropout]:
    """Return the layers whose dropout rate is an input of the step."""
    return [layer for layer in model.layers if type(layer) is keras.layers.Dropout and reads_rate(layer)]


def _model(model: keras.Model, *, outermost: bool) -> Any:
    if not _is_stock_model(model):
        raise UnknownError(f"the model of {type(model)}")
    inputs = set(map(id, rates(model) if outermost else ()))
    for operation in _operations(model):
        _check_plain(operation)
    layers = [_layer(layer, with_rate=id(layer) not in inputs) for layer in model.layers]
    functions = [_operation(one) for one in _operations(model) if not isinstance(one, keras.layers.Layer)]
    config = model.get_config()
    connections = [
        (layer.get("name"), layer.get("inbound_nodes")) if isinstance(layer, dict) else layer
        for layer in config.pop("layers")
    ]
    # Code of yours may freeze a variable of a layer.
    variables = [(tuple(one.shape), str(one.dtype), one.trainable) for one in model.variables]
    return layers, functions, _canonical(connections), _canonical(config), variables


def _operation(operation: Any) -> Any:
    """Return the class and the arguments of a function of `keras.ops`, such as a slope."""
    return _class(type(operation)), _canonical(operation.get_config())


def _is_stock_model(value: Any) -> bool:
    """Return whether a model calls its layers and does nothing else: a functional one of Keras, or a sequential one."""
    cls = type(value)
    return cls.__module__.startswith("keras.src.models.") and cls.__name__ in ("Functional", "Sequential")


def _operations(model: keras.Model) -> Iterator[Any]:
    """Yield all that a model calls, layers or not."""
    graph = getattr(model, "_functional", None) or model
    yield from getattr(graph, "operations", ())
    yield from model.layers


def _check_code() -> None:
    """Check that no code has changed a class of Keras: what it closes over may differ from run to run."""
    for cls, before in _CODE.items():
        if _code_of(cls) != before:
            raise UnknownError(f"the changed class {cls.__name__}")


def _check_plain(operation: Any) -> None:
    """Check that neither class nor object was made or changed by code outside of Keras."""
    cls = type(operation)
    known = cls in _LAYERS or _is_stock_model(operation) or cls.__module__.startswith("keras.src.ops.")
    if not known or not {"call", "__call__", "compute_output_spec"}.isdisjoint(vars(operation)):
        raise UnknownError(f"the layer {getattr(operation, 'name', '')!r} of {cls}")


def _layer(layer: keras.layers.Layer, *, with_rate: bool) -> Any:
    if _is_stock_model(layer):
        return _model(layer, outermost=False)
    if isinstance(layer, keras.layers.Normalization) and not layer.input_mean:
        raise UnknownError(f"the layer {layer.name!r}, whose statistics are in no configuration")
    for name, value in vars(layer).items():
        if name.endswith(("activation", "_regularizer", "_constraint")):
            _canonical(value)
    # The values of variables are copied, wherever they come from.
    kept = {name: value for name, value in layer.get_config().items() if not name.endswith("_initializer")}
    if not with_rate:
        del kept["rate"]
    return type(layer).__name__, _canonical(kept)


def _optimizer(optimizer: keras.optimizers.Optimizer) -> Any:
    if not isinstance(optimizer, _OPTIMIZERS) or optimizer.built:
        raise UnknownError(f"the optimizer of {type(optimizer)}")
    found = [_class(type(optimizer)), optimizer.weight_decay is None, not getattr(optimizer, "momentum", 0)]
    for name, value in sorted(vars(optimizer).items()):
        if name == "_learning_rate":
            found.append(_schedule(optimizer))
        elif name not in _NOT_COMPARED and not name.startswith(("_self_", "_obj_reference")):
            found.append((name, _canonical(value)))
    return found


def _schedule(optimizer: Any) -> Any:
    schedule = optimizer._learning_rate
    if optimizer.schedule_numbers is not None:
        return _class(type(schedule))
    if isinstance(schedule, keras.optimizers.schedules.LearningRateSchedule):
        return _class(type(schedule)), _canonical(schedule.get_config())
    raise UnknownError(f"the learning rate of {type(schedule)}")


def _canonical(value: Any) -> Any:
    """Return nested tuples of plain values that are equal for equal settings.

    Raises:
        UnknownError: an object may do more than its settings say.
    """
    if value is None or type(value) in (bool, int, str, bytes):
        return value
    if isinstance(value, float | np.number | np.bool_):
        return type(value).__name__, repr(value)
    if isinstance(value, np.ndarray) and value.dtype.kind in "biufU":
        digest = hashlib.blake2b(np.ascontiguousarray(value).tobytes(), digest_size=16).hexdigest()
        return str(value.dtype), value.shape, digest
    if isinstance(value, Mapping):
        return {
            str(key): _canonical(one) for key, one in sorted(value.items(), key=lambda item: str(item[0]))
        }
    if isinstance(value, set | frozenset):
        return sorted(repr(_canonical(one)) for one in value)
    if isinstance(value, Sequence):
        return tuple(map(_canonical, value))
    if isinstance(value, re.Pattern):
        return value.pattern, value.flags
    if isinstance(value, ModuleType):
        return value.__name__
    if isinstance(value, FunctionType):
        return _function(value)
    if isinstance(value, MethodType):
        return _function(value.__func__), _canonical(value.__self__)
    if isinstance(value, type):
        return _class(value)
    return _object(value)


def _object(value: Any) -> Any:
    cls = type(value)
    if cls in _LAYERS:
        return _layer(value, with_rate=True)
    if isinstance(value, keras.losses.Loss):
        # Its configuration leaves settings out, such as the delta of Huber's.
        return _class(cls), _canonical(vars(value))
    if is_dataclass(value) and _is_own(cls.__module__):
        return _class(cls), tuple((one.name, _canonical(getattr(value, one.name))) for one in fields(value))
    if _is_own(cls.__module__) and callable(getattr(value, "get_config", None)):
        return _class(cls), _canonical(value.get_config())
    raise UnknownError(f"an object of {cls}")


def _function(function: Callable[..., Any]) -> Any:
    """Return the name of a function of Keras or of this package, with the values that it closes over."""
    if not _is_own(function.__module__):
        raise UnknownError(f"the function {function.__qualname__} of {function.__module__}")
    cells = [cell.cell_contents for cell in function.__closure__ or ()]
    return function.__module__, function.__qualname__, _canonical(cells), _canonical(function.__defaults__)


def _class(cls: type) -> Any:
    """Return the names of a class and its bases, with the attributes of a class that was made at run time."""
    found = []
    for base in cls.__mro__:
        module, name = base.__module__ or "", base.__qualname__
        if not _is_own(module) and not module.startswith(("tensorflow.", "builtins")):
            raise UnknownError(f"the class {name} of {module}")
        declared = getattr(sys.modules.get(module), name, None) is base or not _is_own(module)
        made = {} if declared else {key: one for key, one in vars(base).items() if not key.startswith("__")}
        found.append((module, name, _canonical(made)))
    return tuple(found)


def _is_own(module: str | None) -> bool:
    return f"{module}.".startswith(_OWN)
