"""Models that end in probabilities, as most code for Keras does, turned into models that end in logits."""

from __future__ import annotations

from typing import Any, Literal

import keras

from hpo.errors import ObjectiveBrokenError

Kind = Literal["softmax", "sigmoid"]

_NAMES: dict[str, Kind] = {"Softmax": "softmax", "Sigmoid": "sigmoid"}
"""Classes of Keras, layers and operations alike, that turn logits into probabilities."""
_LEAST = 1e-30
"""Smallest probability whose logarithm is taken."""


def as_logits(model: keras.Model) -> tuple[keras.Model, Kind | None]:
    """Return the model without a softmax or sigmoid at its end, and the kind that was taken off, None for none.

    A layer at the end loses its activation; weights and their order stay.

    Raises:
        ObjectiveBrokenError: this layer is used elsewhere in the model too, where it needs its activation.
    """
    kind = probabilities_of(model)
    if kind is None:
        return model, None
    output = _logits(model, model.outputs[0], [], change=True)
    same = output is model.outputs[0]
    return (model if same else keras.Model(inputs_of(model), output, name=model.name)), kind


def probabilities_of(model: keras.Model) -> Kind | None:
    """Return the kind of probabilities at the end of a model, "softmax" or "sigmoid"; None if it ends in others."""
    found: list[Kind] = []
    _logits(model, model.outputs[0], found, change=False)
    return found[0] if found else None


def ends_in_weights(model: keras.Model) -> bool:
    """Return whether a model ends in a layer of Keras with weights and no activation, whose outputs have any sign."""
    operation = model.outputs[0]._keras_history.operation
    while isinstance(operation, keras.Model) and len(getattr(operation, "outputs", None) or ()) == 1:
        operation = operation.outputs[0]._keras_history.operation
    linear = getattr(operation, "activation", None) is keras.activations.linear
    return linear and type(operation).__module__.startswith("keras.") and bool(operation.weights)


def logarithms(model: keras.Model, kind: Kind) -> keras.Model:
    """Return the model with the logits of its outputs, which are the probabilities of a softmax or sigmoid.

    Its softmax or sigmoid gives these probabilities again. Such logits have the gradients of a loss of probabilities,
    which is 0 where a probability is 0.
    """
    ops = keras.ops
    shares = ops.cast(model.outputs[0], "float32")
    if kind == "softmax":
        output = ops.log(ops.maximum(shares, _LEAST))
    else:
        epsilon = keras.backend.epsilon()
        shares = ops.clip(shares, epsilon, 1.0 - epsilon)
        output = ops.log(shares) - ops.log(1.0 - shares)
    return keras.Model(inputs_of(model), output, name=model.name)


def inputs_of(model: keras.Model) -> Any:
    """Return the inputs of a functional or sequential model in the form in which it is called."""
    return model.inputs[0] if len(model.inputs) == 1 else getattr(model, "_inputs_struct", model.inputs)


def _logits(model: keras.Model, output: Any, found: list[Kind], *, change: bool) -> Any:
    """Return the tensor that an output of a model computes its probabilities from, and add their kind to `found`.

    Without `change`, the model stays as it is, and only `found` is of use.
    """
    operation, index, _ = output._keras_history
    arguments = operation._inbound_nodes[index].arguments
    kind = _kind(operation)
    activation = getattr(operation, "activation", None)
    if kind is not None:
        found.append(kind)
        return _before(output)
    if (kind := _kind_of_activation(activation)) is not None:
        found.append(kind)
        if type(operation) is keras.layers.Activation:
            return _before(output)
        if change:
            _check_used_once(model, operation)
            if isinstance(activation, keras.layers.Layer):
                # PyTorch refuses a function in place of a layer.
                del operation.activation
            operation.activation = keras.activations.linear
    elif isinstance(operation, keras.Model) and len(getattr(operation, "outputs", None) or ()) == 1:
        if change:
            # Its last layer may be changed in place.
            _check_used_once(model, operation)
        inner = _logits(operation, operation.outputs[0], found, change=change)
        if change and inner is not operation.outputs[0]:
            cut = keras.Model(inputs_of(operation), inner, name=operation.name)
            return cut(*arguments.args, **arguments.kwargs)
    elif _changes_nothing(operation):
        before = _logits(model, _before(output), found, change=change)
        if change and found and before is not _before(output):
            return operation(before)
    return output


def _check_used_once(model: keras.Model, operation: Any) -> None:
    graph = getattr(model, "_functional", None) or model
    nodes = [node for depth in graph._nodes_by_depth.values() for node in depth]
    if sum(node.operation is operation for node in nodes) > 1:
        raise ObjectiveBrokenError(
            f"the model ends in probabilities of layer {operation.name!r}, which it uses more than once: end it in a"
            " layer of its own"
        )


def _before(output: Any) -> Any:
    operation, index, _ = output._keras_history
    return operation._inbound_nodes[index].input_tensors[0]


def _kind(operation: Any) -> Kind | None:
    """Return the kind of probabilities of a layer or operation of Keras; None if it has others."""
    return _NAMES.get(type(operation).__name__) if type(operation).__module__.startswith("keras.") else None


def _kind_of_activation(activation: Any) -> Kind | None:
    if activation in (keras.activations.softmax, keras.activations.sigmoid):
        return "softmax" if activation is keras.activations.softmax else "sigmoid"
    return _kind(activation)


def _changes_nothing(operation: Any) -> bool:
    """Return whether an operation at the end only has a type or shape of its own, or acts in training alone."""
    if isinstance(operation, keras.layers.Activation):
        return operation.activation is keras.activations.linear
    return isinstance(operation, keras.layers.Identity | keras.layers.Flatten | keras.layers.Reshape)
