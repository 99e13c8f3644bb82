"""Faster twins of three Keras layers, for training only; exported models have Keras' own layers.

A twin has the variables, configuration and semantics of its Keras layer. Only its kernels differ, and only where
`objectives.backend` has one.
"""

from __future__ import annotations

from typing import Any

import keras

from objectives.backend import jax_convolutions, kernels, lane_convolutions, step_inputs
from objectives.backend.step_inputs import StepInputs


class FusedBatchNormalization(keras.layers.BatchNormalization):  # type: ignore[misc]
    """Batch normalization in one kernel; Keras 3 uses a dozen on TensorFlow."""

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        fits = (
            mask is None
            and len(inputs.shape) == 4
            and self.axis in (-1, 3)
            and self.center
            and self.scale
            and not self.synchronized
            and not getattr(self, "renorm", False)
        )
        if not fits or not kernels.available():
            return super().call(inputs, training=training, mask=mask)
        if not (training and self.trainable):
            return kernels.normalized(
                inputs, self.gamma, self.beta, self.moving_mean, self.moving_variance, self.epsilon
            )
        outputs, mean, variance = kernels.batch_normalized(inputs, self.gamma, self.beta, self.epsilon)
        for moving, value in ((self.moving_mean, mean), (self.moving_variance, variance)):
            moving.assign(moving * self.momentum + value * (1.0 - self.momentum))
        return outputs


class FastDropout(keras.layers.Dropout):  # type: ignore[misc]
    """Dropout that draws 16 random bits per element, where Keras draws 32 and converts them to a float.

    The rate is rounded to a multiple of 1 / 65,536, and the scale follows the rounded rate. Both are inputs of the
    traced step.
    """

    def __init__(self, rate: float, **options: Any) -> None:
        super().__init__(rate, **options)
        self.step_inputs = StepInputs(*kernels.dropout_inputs(rate))

    def set_rate(self, rate: float) -> None:
        """Drop another share, in traced steps too; neither is 0, which needs no operation."""
        self.rate = rate
        self.step_inputs.assign(kernels.dropout_inputs(rate))

    def call(self, inputs: Any, training: bool | None = False) -> Any:
        if not (training and reads_rate(self) and step_inputs.available()):
            return super().call(inputs, training=training)
        dropped, scale = self.step_inputs.read()
        return kernels.dropout(inputs, dropped, scale, self.seed_generator)


def reads_rate(layer: keras.layers.Dropout) -> bool:
    """Return whether the twin of a dropout layer reads its rate as an input; others are traced with theirs."""
    return bool(layer.rate > 0) and layer.noise_shape is None


class PatchConvolution(keras.layers.Conv2D):  # type: ignore[misc]
    """A convolution whose filter gradient is one matrix product where the image is small; in lanes, see there."""

    def convolution_op(self, inputs: Any, kernel: Any) -> Any:
        plain = (
            self.data_format == "channels_last" and self.groups == 1 and tuple(self.dilation_rate) == (1, 1)
        )
        if plain and lane_convolutions.in_lanes():
            inputs, kernel = (keras.ops.cast(value, self.compute_dtype) for value in (inputs, kernel))
            return lane_convolutions.convolution(inputs, kernel, self.strides, self.padding)
        if plain and jax_convolutions.applies():
            inputs, kernel = (keras.ops.cast(value, self.compute_dtype) for value in (inputs, kernel))
            return jax_convolutions.convolution(inputs, kernel, self.strides, self.padding)
        if plain and self.padding == "same" and len(set(self.strides)) == 1 and kernels.available():
            inputs, kernel = (keras.ops.cast(value, self.compute_dtype) for value in (inputs, kernel))
            if kernels.takes_patches(inputs, kernel, self.strides[0]):
                return kernels.convolution(inputs, kernel, self.strides[0])
        return super().convolution_op(inputs, kernel)


_TWINS: dict[type[keras.layers.Layer], type[keras.layers.Layer]] = {
    keras.layers.BatchNormalization: FusedBatchNormalization,
    keras.layers.Conv2D: PatchConvolution,
    keras.layers.Dropout: FastDropout,
}
_EXACT = (
    keras.layers.Rescaling,
    keras.layers.Resizing,
    keras.layers.Normalization,
    keras.layers.InputLayer,
)
"""Layers that stay in float32, because scaling pixels is cheap and would lose digits."""
_LEARNT = (
    keras.layers.Normalization,
    keras.layers.Discretization,
    keras.layers.StringLookup,
    keras.layers.IntegerLookup,
    keras.layers.TextVectorization,
)
"""Layers that learn from data before training, by `adapt`."""


def accelerated(model: keras.Model, precision: str) -> keras.Model:
    """Return a copy for training: faster twins of the layers that compute in `precision` ("float32" or "bfloat16").

    Variables, statistics of normalizations, the logits or values and the loss stay float32, and a layer with its own
    type keeps it. The weights are copied. A model with a layer that has no usable `get_config` is returned unchanged.
    """
    head = _head(model)

    def clone(layer: keras.layers.Layer) -> keras.layers.Layer:
        if isinstance(layer, _LEARNT) and not getattr(layer, "input_mean", None):
            # A vocabulary, or statistics of `adapt`, which are in no configuration. Nothing in it is trained.
            return layer
        config = {name: _unused(name, value) for name, value in layer.get_config().items()}
        plain = getattr(layer, "dtype_policy", None) is not None and layer.dtype_policy.name == "float32"
        exact = layer in head or isinstance(layer, _EXACT)
        if precision == "bfloat16" and plain and not exact:
            config["dtype"] = "mixed_bfloat16"
        return _TWINS.get(type(layer), type(layer)).from_config(config)

    try:
        copy = keras.models.clone_model(model, clone_function=clone)
    except (NotImplementedError, TypeError, ValueError):
        return model
    copy_variables(model, copy)
    for own, copied in zip(model.variables, copy.variables, strict=True):
        # A configuration has the flag of a layer alone.
        copied.trainable = own.trainable
    return copy


def _unused(name: str, value: Any) -> Any:
    """Return the setting of a copy: no initializer, since weights are copied and Keras may not find one of yours."""
    return "zeros" if name.endswith("_initializer") else value


def _head(model: keras.Model) -> list[keras.layers.Layer]:
    """Return the last layer with weights and all after it, whose outputs keep their digits."""
    weighted = [index for index, layer in enumerate(model.layers) if layer.weights]
    return list(model.layers[weighted[-1] if weighted else -1 :])


def copy_variables(source: keras.Model, target: keras.Model) -> None:
    """Copy weights, statistics and random states to a model with the same layers."""
    for old, new in zip(source.variables, target.variables, strict=True):
        new.assign(old)
