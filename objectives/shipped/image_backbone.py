"""Networks with a backbone of `keras.applications`: raw pixels in, the backbone's own preprocessing included."""

from __future__ import annotations

import importlib
import inspect
import math
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import layers

from hpo.errors import ObjectiveBrokenError
from objectives.data.splits import Data
from objectives.shipped.image_objective import images_of

SMALLEST_SIDE = 96
"""Side in pixels to which smaller images are enlarged: each backbone accepts it, and halves an image five times."""
MOMENTUM = 0.8
"""Momentum of moving statistics: those of a deep network change fast, and a trial has few steps."""
HEAD = "logits"
"""Name of the layer that is not part of the backbone."""

_IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Mean and standard deviation of the channels of ImageNet, as 0..1."""
_MEASURED = 32
"""Number of images that give batch normalizations their first statistics."""
_BYTES = {"uint8": 1.0, "uint16": 255 / 65535}
"""Factors that scale pixels of whole numbers to 0..255."""
_FLOAT_MEAN, _FLOAT_STD = 127.5, 64.0
"""Mean and standard deviation that other pixels get, about those of photos."""


def network(backbone: str, weights: Path | None, data: Data, dropout: float) -> keras.Model:
    """Return a network from raw pixels to logits or values.

    With pretrained weights, batch normalizations keep their statistics, scales and offsets. All layers lie in one
    graph, so that each can be replaced by a faster twin.

    Raises:
        ObjectiveBrokenError: there is no such backbone, the weights do not fit it, or the images are neither grey nor
            in colour.
    """
    images_of(data)
    make = _constructor(backbone)
    inputs = keras.Input(data.image_shape, dtype=str(data.x_train.dtype), name="pixels")
    body = _body(make, weights, _prepared(inputs, make, data, weights is not None), backbone)
    norms = [layer for layer in body.layers if isinstance(layer, layers.BatchNormalization)]
    for layer in norms:
        layer.trainable = weights is None
    if weights is None:
        _measure(norms, keras.Model(inputs, body.output), data)
    x = layers.GlobalAveragePooling2D()(body.output)
    x = layers.Dropout(dropout)(x)
    return keras.Model(inputs, layers.Dense(data.output_size, name=HEAD)(x), name=backbone.lower())


def _measure(norms: Sequence[layers.BatchNormalization], body: keras.Model, data: Data) -> None:
    """Set the statistics of batch normalizations to those of some training images.

    They begin at a variance of 1, while random layers of a deep backbone have one of 1e-4 and less: until they had
    forgotten it, after some epochs of few images, a model that learns well would validate at chance.
    """
    # Evenly spaced, because images may be in the order of their classes.
    rows = np.linspace(0, len(data.x_train) - 1, min(_MEASURED, len(data.x_train))).astype(np.int64)
    for layer in norms:
        layer.momentum = 0.0
    body(data.x_train[rows], training=True)
    for layer in norms:
        layer.momentum = MOMENTUM


def _constructor(backbone: str) -> Callable[..., keras.Model]:
    make = getattr(keras.applications, backbone, None)
    if not inspect.isfunction(make):
        offered = sorted(
            name for name, value in vars(keras.applications).items() if inspect.isfunction(value)
        )
        raise ObjectiveBrokenError(
            f"keras.applications has no backbone {backbone!r}: use one of {', '.join(offered)}"
        )
    return make


def _body(make: Callable[..., keras.Model], weights: Path | None, x: Any, backbone: str) -> keras.Model:
    with warnings.catch_warnings():
        # Of a size that is not that of the pretraining.
        warnings.simplefilter("ignore", UserWarning)
        body = make(include_top=False, weights=None, input_tensor=x)
        try:
            if weights is not None:
                body.load_weights(weights)
        # Keras raises anything for a file of another model.
        except Exception as exc:
            raise ObjectiveBrokenError(
                f"the weights in {weights} do not fit {backbone} ({' '.join(str(exc).split())[:200]}): give those of"
                f" this backbone without its classifier, or choose theirs with --param backbone=NAME"
            ) from exc
    return body


def _prepared(pixels: Any, make: Callable[..., keras.Model], data: Data, pretrained: bool = True) -> Any:
    """Return the images as the backbone expects them: large enough, three channels, and scaled."""
    height, width, channels = images_of(data)
    if channels not in (1, 3):
        raise ObjectiveBrokenError(
            f"image-finetune trains on images with 1 or 3 channels, not {channels}: use image-resnet or image-cnn"
        )
    x = pixels if channels == 3 else layers.Concatenate()([pixels] * 3)
    scale, offset = _scaling(data)
    matrix, shift = _preprocessing(make)
    if pretrained and make.__module__.endswith(".efficientnet"):
        # Its own layers divide by the variance of ImageNet's channels only where Keras itself loads the weights.
        mean, std = (255 * np.array(values) for values in _IMAGENET)
        factors = (std / 255) ** -0.5
        matrix, shift = matrix * factors, mean * (1 - factors)
    if matrix[0, 0] == 0:
        # Pretrained on images whose first channel is blue.
        x, scale, offset = keras.ops.flip(x, axis=-1), scale[::-1], offset[::-1]
        matrix = matrix[:, ::-1]
    factors = matrix.diagonal()
    x = layers.Rescaling((factors * scale).tolist(), (factors * offset + shift).tolist())(x)
    times = math.ceil(SMALLEST_SIDE / min(height, width))
    return x if times == 1 else layers.Resizing(times * height, times * width)(x)


def _scaling(data: Data) -> tuple[Any, Any]:
    """Return scales and offsets that bring each of three channels to 0..255."""
    kind = str(data.x_train.dtype)
    if kind in _BYTES:
        return np.full(3, _BYTES[kind]), np.zeros(3)
    mean, std = (np.broadcast_to(values, 3) for values in (data.mean, data.std))
    return _FLOAT_STD / std, _FLOAT_MEAN - _FLOAT_STD * mean / std


def _preprocessing(make: Callable[..., keras.Model]) -> tuple[Any, Any]:
    """Return matrix (3, 3) and offset (3,) of a backbone's `preprocess_input`, which is linear in the channels."""
    module = importlib.import_module(make.__module__)
    pixels = np.concatenate([np.zeros((1, 3)), np.eye(3)]).astype(np.float32)[:, None, None, :]
    outputs = np.asarray(module.preprocess_input(pixels), np.float64)[:, 0, 0, :]
    return (outputs[1:] - outputs[0]).T, outputs[0]
