"""The networks of the shipped objectives, in stock Keras layers: raw uint8 pixels in, logits out.

`cnn` is a plain stack of convolutions; `resnet` follows He et al., "Deep residual learning for image
recognition" (2015), section 4.2, with projections where a stage changes shape.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import layers

from objectives.splits import Data

BATCH_NORM_MOMENTUM = 0.9
"""Keras' 0.99 needs more steps than a short trial has before validation sees sound statistics."""


def cnn(
    data: Data, widths: Sequence[int] = (32, 64), depth: int = 1, dense: int = 128, dropout: float = 0.0
) -> keras.Model:
    """Stages that each halve the image: a strided 3×3 convolution, then `depth - 1` more of the same width.

    The stride does the work of a pooling layer, which would have four times the outputs to compute first.
    """
    inputs = _input(data)
    x = _normalized(inputs, data)
    for width in widths:
        x = _convolution(x, width, stride=2)
        for _ in range(depth - 1):
            x = _convolution(x, width)
    x = layers.Flatten()(x)
    x = layers.Dropout(dropout)(x)
    x = layers.Dense(dense, activation="relu", kernel_initializer="he_normal")(x)
    x = layers.Dropout(dropout)(x)
    return keras.Model(inputs, layers.Dense(data.class_count, name="logits")(x), name="cnn")


def resnet(
    data: Data,
    widths: Sequence[int] = (16, 32, 64),
    depth: int = 3,
    stem: int | None = None,
    first_stride: int = 1,
    dropout: float = 0.0,
) -> keras.Model:
    """A convolution of width `stem`, then stages of `depth` residual blocks, each after the first halving.

    As it stands this is ResNet-20 of the paper, which has 6 × depth + 2 layers. With `first_stride` 2
    the first stage halves the image as well, so that wider stages cost no more.
    """
    inputs = _input(data)
    x = _convolution(_normalized(inputs, data), stem or widths[0])
    for stage, width in enumerate(widths):
        for block in range(depth):
            stride = (2 if stage > 0 else first_stride) if block == 0 else 1
            x = _residual(x, width, stride)
    x = layers.GlobalAveragePooling2D()(x)
    x = layers.Dropout(dropout)(x)
    return keras.Model(inputs, layers.Dense(data.class_count, name="logits")(x), name="resnet")


def _input(data: Data) -> Any:
    return keras.Input(data.image_shape, dtype="uint8", name="pixels")


def _normalized(pixels: Any, data: Data) -> Any:
    """To zero mean and unit variance in each channel, by the statistics of the training images."""
    x = layers.Rescaling(1 / 255)(pixels)
    return layers.Normalization(mean=data.mean, variance=[std**2 for std in data.std])(x)


def _convolution(x: Any, width: int, stride: int = 1, relu: bool = True) -> Any:
    """3×3 convolution and batch normalization, which makes a bias redundant."""
    x = layers.Conv2D(
        width, 3, strides=stride, padding="same", use_bias=False, kernel_initializer="he_normal"
    )(x)
    x = layers.BatchNormalization(momentum=BATCH_NORM_MOMENTUM)(x)
    return layers.ReLU()(x) if relu else x


def _residual(x: Any, width: int, stride: int) -> Any:
    """Two convolutions beside a shortcut: the identity, or a 1×1 projection where the shape changes."""
    shortcut = x
    if stride != 1 or x.shape[-1] != width:
        shortcut = layers.Conv2D(width, 1, strides=stride, use_bias=False, kernel_initializer="he_normal")(x)
        shortcut = layers.BatchNormalization(momentum=BATCH_NORM_MOMENTUM)(shortcut)
    x = _convolution(x, width, stride)
    x = _convolution(x, width, relu=False)
    return layers.ReLU()(layers.Add()([x, shortcut]))
