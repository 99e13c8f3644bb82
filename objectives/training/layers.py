"""Faster twins of three Keras layers, for training only: what is exported are Keras' own.

A twin has the variables, the configuration and the meaning of the layer it stands for; only the kernels
differ, and only where `objectives.backend.kernels` has one. Everywhere else it is Keras' layer unchanged.
"""

from __future__ import annotations

from typing import Any

import keras

from objectives.backend import kernels


class FusedBatchNormalization(keras.layers.BatchNormalization):  # type: ignore[misc]
    """Batch normalization in one kernel; Keras 3 composes it of a dozen on TensorFlow."""

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
    """Dropout that draws 16 random bits an element, of which Keras draws 32 and makes a float.

    So the rate is rounded to a multiple of 1 / 65,536; what is kept is scaled by the rate as rounded.
    """

    def call(self, inputs: Any, training: bool | None = False) -> Any:
        if not training or self.rate == 0 or self.noise_shape is not None or not kernels.available():
            return super().call(inputs, training=training)
        return kernels.dropout(inputs, self.rate, self.seed_generator)


class PatchConvolution(keras.layers.Conv2D):  # type: ignore[misc]
    """A convolution whose filter gradient is a product of matrices where the image is small."""

    def convolution_op(self, inputs: Any, kernel: Any) -> Any:
        plain = (
            self.padding == "same"
            and self.data_format == "channels_last"
            and self.groups == 1
            and tuple(self.dilation_rate) == (1, 1)
            and len(set(self.strides)) == 1
        )
        if plain and kernels.available():
            inputs, kernel = (keras.ops.cast(value, self.compute_dtype) for value in (inputs, kernel))
            if kernels.takes_patches(inputs, kernel, self.strides[0]):
                return kernels.convolution(inputs, kernel, self.strides[0])
        return super().convolution_op(inputs, kernel)


_TWINS: dict[type[keras.layers.Layer], type[keras.layers.Layer]] = {
    keras.layers.BatchNormalization: FusedBatchNormalization,
    keras.layers.Conv2D: PatchConvolution,
    keras.layers.Dropout: FastDropout,
}
_EXACT = (keras.layers.Rescaling, keras.layers.Normalization, keras.layers.InputLayer)
"""Layers that stay in float32: what they do to the pixels costs little and would lose digits."""


def accelerated(model: keras.Model, precision: str) -> keras.Model:
    """A copy to train: the layers' faster twins, computing in `precision` ("float32" or "bfloat16").

    Variables, the statistics of normalizations, the last layer's logits and so
    the loss stay float32. A layer that was given a type of its own keeps it. The weights are copied.
    A model with a layer that cannot be made anew from its configuration is returned as it is.
    """
    last = model.layers[-1]

    def clone(layer: keras.layers.Layer) -> keras.layers.Layer:
        config = layer.get_config()
        plain = getattr(layer, "dtype_policy", None) is not None and layer.dtype_policy.name == "float32"
        if precision == "bfloat16" and plain and layer is not last and not isinstance(layer, _EXACT):
            config["dtype"] = "mixed_bfloat16"
        return _TWINS.get(type(layer), type(layer)).from_config(config)

    try:
        copy = keras.models.clone_model(model, clone_function=clone)
    except (NotImplementedError, TypeError, ValueError):
        return model
    copy_variables(model, copy)
    return copy


def copy_variables(source: keras.Model, target: keras.Model) -> None:
    """Weights, statistics and random states of one model into another of the same layers."""
    for old, new in zip(source.variables, target.variables, strict=True):
        new.assign(old)
