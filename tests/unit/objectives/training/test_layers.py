"""The faster twins compute the same as Keras' layers."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from objectives import backend
from objectives.backend import kernels
from objectives.training.layers import FastDropout, FusedBatchNormalization, PatchConvolution, accelerated

pytestmark = pytest.mark.skipif(
    backend.name() != "tensorflow", reason="the twins are Keras' own layers elsewhere"
)


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(0).normal(3.0, 2.0, (16, 5, 4, 6)).astype(np.float32)


def _pair(**config) -> tuple[keras.layers.Layer, keras.layers.Layer]:
    rng = np.random.default_rng(1)
    pair = keras.layers.BatchNormalization(**config), FusedBatchNormalization(**config)
    values = [rng.uniform(0.5, 1.5, 6) for _ in range(4)]
    for layer in pair:
        layer.build((None, 5, 4, 6))
        layer.set_weights(values[: len(layer.weights)])
    return pair


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    "config", [{}, {"momentum": 0.5, "epsilon": 0.1}, {"scale": False}, {"trainable": False}]
)
def test_fused_normalization_equals_keras(images, config, training):
    stock, fused = _pair(**config)
    np.testing.assert_allclose(
        keras.ops.convert_to_numpy(fused(images, training=training)),
        keras.ops.convert_to_numpy(stock(images, training=training)),
        atol=2e-5,
    )
    for mine, keras_own in zip(fused.weights, stock.weights, strict=True):
        np.testing.assert_allclose(mine.numpy(), keras_own.numpy(), rtol=1e-5, err_msg=mine.name)


def test_gradients_of_fused_normalization_equal_keras(images):
    import tensorflow as tf

    weights = np.random.default_rng(2).normal(size=images.shape).astype(np.float32)
    found = []
    for layer in _pair():
        x = tf.constant(images)
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = tf.reduce_sum(layer(x, training=True) * weights)
        found.append(tape.gradient(loss, [x, layer.gamma.value, layer.beta.value]))
    for mine, keras_own in zip(found[1], found[0], strict=True):
        np.testing.assert_allclose(mine, keras_own, atol=1e-3)


def test_normalization_of_other_shapes_falls_back():
    flat = np.random.default_rng(0).normal(size=(8, 6)).astype(np.float32)
    stock, fused = keras.layers.BatchNormalization(), FusedBatchNormalization()
    np.testing.assert_array_equal(fused(flat, training=True), stock(flat, training=True))


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.75])
def test_dropout_drops_its_rate_and_keeps_the_mean(rate):
    ones = np.ones((301, 333), np.float32)
    layer = FastDropout(rate, seed=1)
    first, second = (keras.ops.convert_to_numpy(layer(ones, training=True)) for _ in range(2))
    assert np.mean(first == 0) == pytest.approx(rate, abs=0.01)
    assert first.mean() == pytest.approx(1, abs=0.02)
    assert (first != second).any()
    np.testing.assert_array_equal(layer(ones, training=False), ones)


def _model() -> keras.Model:
    return keras.Sequential(
        [
            keras.Input((6, 6, 3), dtype="uint8"),
            keras.layers.Rescaling(1 / 255),
            keras.layers.Conv2D(4, 3),
            keras.layers.BatchNormalization(),
            keras.layers.Conv2D(4, 3, dtype="float64"),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dropout(0.3),
            keras.layers.Dense(2),
        ]
    )


def test_accelerated_model_computes_in_bfloat16_except_exact_layers():
    stock = _model()
    fast = accelerated(stock, "bfloat16")
    kinds = [type(layer) for layer in fast.layers]
    assert FusedBatchNormalization in kinds
    assert FastDropout in kinds
    computed = [layer.compute_dtype for layer in fast.layers]
    assert computed == ["float32", "bfloat16", "bfloat16", "float64", "bfloat16", "bfloat16", "float32"]
    assert {layer.variable_dtype for layer in fast.layers} == {"float32", "float64"}
    for old, new in zip(stock.variables, fast.variables, strict=True):
        np.testing.assert_array_equal(old.numpy(), new.numpy())
    pixels = np.random.default_rng(0).integers(0, 256, (4, 6, 6, 3), dtype=np.uint8)
    logits = fast(pixels, training=False)
    assert keras.backend.standardize_dtype(logits.dtype) == "float32"
    np.testing.assert_allclose(logits, stock(pixels, training=False), atol=0.02)


class Opaque(keras.layers.Layer):
    """A user's layer without configuration."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def call(self, inputs):
        return self.function(inputs)


def test_model_without_config_is_returned_unchanged():
    inputs = keras.Input((4,))
    model = keras.Model(inputs, keras.layers.Dense(2)(Opaque(lambda x: x * 2)(inputs)))
    assert accelerated(model, "bfloat16") is model


@pytest.mark.parametrize(("size", "stride"), [((4, 4), 1), ((8, 8), 2), ((3, 2), 1), ((6, 4), 2)])
def test_filter_gradients_from_patches_equal_keras(size, stride):
    import tensorflow as tf

    rng = np.random.default_rng(3)
    x = tf.constant(rng.normal(size=(5, *size, 6)), tf.bfloat16)
    convolutions = [
        cls(4, 3, strides=stride, padding="same", dtype="mixed_bfloat16", use_bias=False)
        for cls in (keras.layers.Conv2D, PatchConvolution)
    ]
    for layer in convolutions:
        layer.build(x.shape)
    convolutions[1].set_weights(convolutions[0].get_weights())
    assert kernels.takes_patches(x, convolutions[1].kernel, stride)
    upstream = tf.constant(rng.normal(size=(5, size[0] // stride, size[1] // stride, 4)), tf.bfloat16)
    found = []
    for layer in convolutions:
        with tf.GradientTape() as tape:
            tape.watch(x)
            outputs = layer(x)
        gradients = tape.gradient(outputs, [x, layer.kernel.value], upstream)
        found.append([tf.cast(value, tf.float32).numpy() for value in (outputs, *gradients)])
    # bfloat16 keeps eight bits, and the two sum in another order.
    for mine, keras_own in zip(found[1], found[0], strict=True):
        np.testing.assert_allclose(mine, keras_own, atol=0.02 * np.abs(keras_own).max())


@pytest.mark.parametrize(
    ("shape", "dtype", "kernel", "stride"),
    [
        ((5, 8, 8, 6), "bfloat16", (3, 3, 6, 4), 1),
        ((5, 4, 4, 6), "float32", (3, 3, 6, 4), 1),
        ((5, 4, 4, 6), "bfloat16", (1, 1, 6, 4), 1),
        ((5, 4, 4, 5), "bfloat16", (3, 3, 5, 4), 1),
        ((5, 7, 7, 6), "bfloat16", (3, 3, 6, 4), 2),
        ((5, 4, 4, 6), "bfloat16", (3, 3, 6, 4), 3),
    ],
)
def test_other_convolutions_use_keras_kernels(shape, dtype, kernel, stride):
    import tensorflow as tf

    assert not kernels.takes_patches(tf.zeros(shape, dtype), tf.zeros(kernel, dtype), stride)


class Halves(keras.initializers.Initializer):
    """An initializer that Keras finds in no configuration."""

    def __call__(self, shape, dtype=None):
        return keras.ops.full(shape, 0.5, dtype)


def test_layers_with_an_initializer_of_yours_are_copied():
    options = {"kernel_initializer": Halves()}
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, **options), keras.layers.Dropout(0.5)])
    copy = accelerated(model, "float32")
    assert [type(layer) for layer in copy.layers] == [keras.layers.Dense, FastDropout]
    np.testing.assert_array_equal(copy.get_weights()[0], np.full((3, 2), 0.5))
