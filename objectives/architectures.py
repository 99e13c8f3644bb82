"""The networks of the shipped objectives, in stock Keras layers: raw pixels in, logits or values out.

`cnn` is a plain stack of convolutions; `resnet` follows He et al., "Deep residual learning for image
recognition" (2015), section 4.2, with projections where a stage changes shape; `pooled_resnet` is shallow and
wide, after Page, "How to train your ResNet" (2018). Each takes parts of recipes: another activation, a whitening first
layer, and convolutions that pass their inputs through at first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import keras
from keras import layers

from hpo.errors import ObjectiveBrokenError
from objectives.data.splits import Data
from objectives.recipes.dirac import Dirac
from objectives.recipes.whitening import SCALES, whitened

Activation = str | Callable[[Any], Any]
"""Name of an activation of Keras, such as "relu", "gelu" or "silu", or a function of a tensor."""

BATCH_NORM_MOMENTUM = 0.9
"""Momentum of moving statistics; with Keras' 0.99 they take more steps to settle than a short trial has."""

FEATURE_SCALE = 1 / 8
"""Page's scale of the features after global max pooling, whose logits would otherwise be too confident early on."""


@dataclass(frozen=True, kw_only=True)
class _Style:
    """The parts of recipes that all layers of a network share."""

    activation: Activation
    whitening: int
    """Side of the patches of the whitening layer in pixels; 0: no such layer."""
    dirac: bool

    def kernel(self) -> Any:
        """Return the initializer of a convolution's kernel."""
        return Dirac("he_normal") if self.dirac else "he_normal"

    def active(self, x: Any) -> Any:
        """Apply the activation.

        Raises:
            ObjectiveBrokenError: Keras has none of its name.
        """
        if self.activation == "relu":
            return layers.ReLU()(x)
        try:
            return layers.Activation(self.activation)(x)
        except ValueError as exc:
            raise ObjectiveBrokenError(
                f"the activation {self.activation!r:.60} is not one of Keras: use the name of one, such as 'relu',"
                " 'gelu' or 'silu', or a function"
            ) from exc


def cnn(
    data: Data,
    widths: Sequence[int] = (32, 64),
    depth: int = 1,
    dense: int = 128,
    dropout: float = 0.0,
    halvings: int = 0,
    activation: Activation = "relu",
    whitening: int = 0,
    dirac: bool = False,
) -> keras.Model:
    """Return a CNN whose stages halve the image: a strided 3×3 convolution, then `depth - 1` more of the same width.

    The stride replaces a pooling layer, before which a convolution would compute four times the outputs. Before the
    stages, `halvings` strided convolutions reduce a large image. With `whitening`, a whitening layer of patches of so
    many pixels comes first; with `dirac`, convolutions pass their inputs through at first.

    Raises:
        ObjectiveBrokenError: Keras has no such activation, or the patches are larger than the images.
    """
    style, inputs = _Style(activation=activation, whitening=whitening, dirac=dirac), _input(data)
    x = _prepared(inputs, data, style)
    for _ in range(halvings):
        x = _convolution(x, widths[0], style, stride=2)
    for width in widths:
        x = _convolution(x, width, style, stride=2)
        for _ in range(depth - 1):
            x = _convolution(x, width, style)
    x = layers.Flatten()(x)
    x = layers.Dropout(dropout)(x)
    if activation == "relu":
        x = layers.Dense(dense, activation="relu", kernel_initializer="he_normal")(x)
    else:
        x = style.active(layers.Dense(dense, kernel_initializer="he_normal")(x))
    return _classifier(inputs, x, data, dropout, "cnn")


def resnet(
    data: Data,
    widths: Sequence[int] = (16, 32, 64),
    depth: int = 3,
    dropout: float = 0.0,
    activation: Activation = "relu",
    whitening: int = 0,
    dirac: bool = False,
) -> keras.Model:
    """Return a ResNet: a convolution, then stages of `depth` residual blocks; each after the first halves the image.

    The default is ResNet-20 of the paper, which has 6 × depth + 2 layers. `activation`, `whitening` and `dirac` are
    those of `cnn`.

    Raises:
        ObjectiveBrokenError: as `cnn`.
    """
    style, inputs = _Style(activation=activation, whitening=whitening, dirac=dirac), _input(data)
    x = _convolution(_prepared(inputs, data, style), widths[0], style)
    for stage, width in enumerate(widths):
        for block in range(depth):
            x = _residual(x, width, style, stride=2 if stage > 0 and block == 0 else 1)
    return _classifier(inputs, layers.GlobalAveragePooling2D()(x), data, dropout, "resnet")


def pooled_resnet(
    data: Data,
    widths: Sequence[int] = (64, 128, 256),
    depths: Sequence[int] = (1, 1, 1),
    stem: int = 32,
    dropout: float = 0.0,
    halvings: int = 0,
    activation: Activation = "relu",
    whitening: int = 0,
    dirac: bool = False,
) -> keras.Model:
    """Return a convolution of width `stem`, then stages that halve the image by max pooling.

    For a large image, the first convolution is replaced by `halvings` strided ones. A stage has one convolution to its
    width before the pooling, and `depths` residual blocks after it, where the image is small. The default is Page's
    network with half the channels and one block more, because his second stage has no block. `activation`, `whitening`
    and `dirac` are those of `cnn`; a whitening layer takes the place of the first convolution of a small image.

    Raises:
        ObjectiveBrokenError: as `cnn`.
    """
    style, inputs = _Style(activation=activation, whitening=whitening, dirac=dirac), _input(data)
    x = _prepared(inputs, data, style)
    for stride in [2] * halvings or [1] * (not whitening):
        x = _convolution(x, stem, style, stride)
    for width, depth in zip(widths, depths, strict=True):
        x = _convolution(x, width, style, pool=True)
        for _ in range(depth):
            x = _residual(x, width, style, stride=1)
    x = layers.GlobalMaxPooling2D()(x)
    return _classifier(inputs, layers.Rescaling(FEATURE_SCALE)(x), data, dropout, "pooled_resnet")


def _input(data: Data) -> Any:
    return keras.Input(data.image_shape, dtype=str(data.x_train.dtype), name="pixels")


def _prepared(pixels: Any, data: Data, style: _Style) -> Any:
    """Return normalized pixels, after the whitening layer if there is one."""
    x = _normalized(pixels, data)
    return style.active(whitened(x, data, style.whitening)) if style.whitening else x


def _normalized(pixels: Any, data: Data) -> Any:
    """Scale each channel to zero mean and unit variance by the statistics of the training images."""
    x = layers.Rescaling(SCALES.get(str(data.x_train.dtype), 1.0))(pixels)
    return layers.Normalization(mean=data.mean, variance=[std**2 for std in data.std])(x)


def _classifier(inputs: Any, features: Any, data: Data, dropout: float, name: str) -> keras.Model:
    x = layers.Dropout(dropout)(features)
    return keras.Model(inputs, layers.Dense(data.output_size, name="logits")(x), name=name)


def _convolution(
    x: Any, width: int, style: _Style, stride: int = 1, pool: bool = False, active: bool = True
) -> Any:
    """Apply a 3×3 convolution, optional max pooling, and batch normalization, which makes a bias redundant."""
    x = layers.Conv2D(
        width, 3, strides=stride, padding="same", use_bias=False, kernel_initializer=style.kernel()
    )(x)
    if pool:
        # Before the normalization, which then processes a quarter of the pixels.
        x = layers.MaxPooling2D()(x)
    x = layers.BatchNormalization(momentum=BATCH_NORM_MOMENTUM)(x)
    return style.active(x) if active else x


def _residual(x: Any, width: int, style: _Style, stride: int) -> Any:
    """Apply two convolutions and a shortcut: the identity, or a 1×1 projection where the shape changes."""
    shortcut = x
    if stride != 1 or x.shape[-1] != width:
        shortcut = layers.Conv2D(width, 1, strides=stride, use_bias=False, kernel_initializer=style.kernel())(
            x
        )
        shortcut = layers.BatchNormalization(momentum=BATCH_NORM_MOMENTUM)(shortcut)
    x = _convolution(x, width, style, stride)
    x = _convolution(x, width, style, active=False)
    return style.active(layers.Add()([x, shortcut]))
