"""The networks of the shipped objectives, in stock Keras layers: raw pixels in, logits or values out.

`cnn` is a plain stack of convolutions; `resnet` follows He et al., "Deep residual learning for image
recognition" (2015), section 4.2, with projections where a stage changes shape; `pooled_resnet` is shallow and
wide, after Page, "How to train your ResNet" (2018).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import layers

from objectives.data.splits import Data

BATCH_NORM_MOMENTUM = 0.9
"""Momentum of moving statistics; with Keras' 0.99 they take more steps to settle than a short trial has."""

FEATURE_SCALE = 1 / 8
"""Page's scale of the features after global max pooling, whose logits would otherwise be too confident early on."""


SCALES = {"uint8": 1 / 255, "uint16": 1 / 65535}
"""Factors that scale pixels of whole numbers to 0..1; other pixels are not scaled."""


def cnn(
    data: Data,
    widths: Sequence[int] = (32, 64),
    depth: int = 1,
    dense: int = 128,
    dropout: float = 0.0,
    halvings: int = 0,
) -> keras.Model:
    """Return a CNN whose stages halve the image: a strided 3×3 convolution, then `depth - 1` more of the same width.

    The stride replaces a pooling layer, before which a convolution would compute four times the outputs. Before the
    stages, `halvings` strided convolutions reduce a large image.
    """
    inputs = _input(data)
    x = _normalized(inputs, data)
    for _ in range(halvings):
        x = _convolution(x, widths[0], stride=2)
    for width in widths:
        x = _convolution(x, width, stride=2)
        for _ in range(depth - 1):
            x = _convolution(x, width)
    x = layers.Flatten()(x)
    x = layers.Dropout(dropout)(x)
    x = layers.Dense(dense, activation="relu", kernel_initializer="he_normal")(x)
    return _classifier(inputs, x, data, dropout, "cnn")


def resnet(
    data: Data,
    widths: Sequence[int] = (16, 32, 64),
    depth: int = 3,
    dropout: float = 0.0,
) -> keras.Model:
    """Return a ResNet: a convolution, then stages of `depth` residual blocks; each after the first halves the image.

    The default is ResNet-20 of the paper, which has 6 × depth + 2 layers.
    """
    inputs = _input(data)
    x = _convolution(_normalized(inputs, data), widths[0])
    for stage, width in enumerate(widths):
        for block in range(depth):
            x = _residual(x, width, stride=2 if stage > 0 and block == 0 else 1)
    return _classifier(inputs, layers.GlobalAveragePooling2D()(x), data, dropout, "resnet")


def pooled_resnet(
    data: Data,
    widths: Sequence[int] = (64, 128, 256),
    depths: Sequence[int] = (1, 1, 1),
    stem: int = 32,
    dropout: float = 0.0,
    halvings: int = 0,
) -> keras.Model:
    """Return a convolution of width `stem`, then stages that halve the image by max pooling.

    For a large image, the first convolution is replaced by `halvings` strided ones. A stage has one convolution to its
    width before the pooling, and `depths` residual blocks after it, where the image is small. The default is Page's
    network with half the channels and one block more, because his second stage has no block.
    """
    inputs = _input(data)
    x = _normalized(inputs, data)
    for stride in [2] * halvings or [1]:
        x = _convolution(x, stem, stride)
    for width, depth in zip(widths, depths, strict=True):
        x = _convolution(x, width, pool=True)
        for _ in range(depth):
            x = _residual(x, width, stride=1)
    x = layers.GlobalMaxPooling2D()(x)
    return _classifier(inputs, layers.Rescaling(FEATURE_SCALE)(x), data, dropout, "pooled_resnet")


def _input(data: Data) -> Any:
    return keras.Input(data.image_shape, dtype=str(data.x_train.dtype), name="pixels")


def _normalized(pixels: Any, data: Data) -> Any:
    """Scale each channel to zero mean and unit variance by the statistics of the training images."""
    x = layers.Rescaling(SCALES.get(str(data.x_train.dtype), 1.0))(pixels)
    return layers.Normalization(mean=data.mean, variance=[std**2 for std in data.std])(x)


def _classifier(inputs: Any, features: Any, data: Data, dropout: float, name: str) -> keras.Model:
    x = layers.Dropout(dropout)(features)
    return keras.Model(inputs, layers.Dense(data.output_size, name="logits")(x), name=name)


def _convolution(x: Any, width: int, stride: int = 1, pool: bool = False, relu: bool = True) -> Any:
    """Apply a 3×3 convolution, optional max pooling, and batch normalization, which makes a bias redundant."""
    x = layers.Conv2D(
        width, 3, strides=stride, padding="same", use_bias=False, kernel_initializer="he_normal"
    )(x)
    if pool:
        # Before the normalization, which then processes a quarter of the pixels.
        x = layers.MaxPooling2D()(x)
    x = layers.BatchNormalization(momentum=BATCH_NORM_MOMENTUM)(x)
    return layers.ReLU()(x) if relu else x


def _residual(x: Any, width: int, stride: int) -> Any:
    """Apply two convolutions and a shortcut: the identity, or a 1×1 projection where the shape changes."""
    shortcut = x
    if stride != 1 or x.shape[-1] != width:
        shortcut = layers.Conv2D(width, 1, strides=stride, use_bias=False, kernel_initializer="he_normal")(x)
        shortcut = layers.BatchNormalization(momentum=BATCH_NORM_MOMENTUM)(shortcut)
    x = _convolution(x, width, stride)
    x = _convolution(x, width, relu=False)
    return layers.ReLU()(layers.Add()([x, shortcut]))
