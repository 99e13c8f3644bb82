"""A convolution whose filter gradient is summed over parts of a batch computes the same as Keras' own."""

from __future__ import annotations

import numpy as np
import pytest

from objectives import backend

if backend.name() != "jax":
    pytest.skip("this is about JAX: KERAS_BACKEND=jax", allow_module_level=True)

import jax
import keras

from objectives.backend import jax_convolutions
from objectives.training.layers import PatchConvolution


@pytest.mark.parametrize("count", [5, 40])
@pytest.mark.parametrize(
    ("side", "stride", "padding"), [(3, 1, "same"), (3, 2, "same"), (2, 2, "valid"), (1, 1, "same")]
)
def test_gradients_equal_those_of_keras(monkeypatch, count, side, stride, padding):
    monkeypatch.setattr(jax_convolutions, "LEAST_VALUES", 0)
    options = {"strides": stride, "padding": padding}
    images = np.random.default_rng(0).normal(size=(count, 7, 6, 3)).astype(np.float32)
    found = []
    for kind in (keras.layers.Conv2D, PatchConvolution):
        layer = kind(4, side, kernel_initializer=keras.initializers.HeNormal(seed=1), **options)
        layer.build(images.shape)

        def loss(x, kernel, layer=layer):
            return (layer.stateless_call([kernel, layer.bias.value], [], x)[0] ** 3).sum()

        found.append(jax.jit(jax.value_and_grad(loss, (0, 1)))(images, layer.kernel.value))
    for mine, theirs in zip(jax.tree.leaves(found[1]), jax.tree.leaves(found[0]), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-4, atol=1e-4)


def test_gradient_of_a_large_batch_is_summed_over_parts():
    def gradients(count: int) -> int:
        images = np.zeros((count, 32, 32, 16), np.float32)

        def loss(kernel):
            return jax_convolutions.convolution(images, kernel, (1, 1), "same").sum()

        traced = str(jax.make_jaxpr(jax.grad(loss))(np.zeros((3, 3, 16, 4), np.float32)))
        return traced.count("conv_general_dilated[")

    one, most, larger = [gradients(count) for count in (8, 128, 512)]
    assert one < most
    assert most == larger, "a program grows with the batch only so far"
