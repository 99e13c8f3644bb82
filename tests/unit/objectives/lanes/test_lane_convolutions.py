"""All forms of a convolution of several lanes compute the same, forward and backward."""

from __future__ import annotations

import numpy as np
import pytest

from objectives import backend

if backend.name() != "jax":
    pytest.skip("lanes need JAX: KERAS_BACKEND=jax", allow_module_level=True)

import jax

from objectives.backend import lane_convolutions

LANES = 3


@pytest.mark.parametrize("form", ["grouped", "patches", "apart"])
@pytest.mark.parametrize(
    ("size", "side", "stride", "padding"),
    [(6, 3, 1, "same"), (7, 3, 2, "same"), (6, 2, 2, "valid"), (5, 1, 2, "same")],
)
def test_forms_equal_one_lane_at_a_time(monkeypatch, form, size, side, stride, padding):
    monkeypatch.setattr(lane_convolutions, "_chosen", {})
    monkeypatch.setattr(lane_convolutions, "_fastest", lambda *_: form)
    rng = np.random.default_rng(0)
    images = rng.normal(size=(LANES, 2, size, size, 4)).astype(np.float32)
    kernels = rng.normal(size=(LANES, side, side, 4, 5)).astype(np.float32)

    def loss(x, kernel):
        return (lane_convolutions.convolution(x, kernel, (stride, stride), padding) ** 3).sum()

    def plain(x, kernel):
        numbers = ("NHWC", "HWIO", "NHWC")
        out = jax.lax.conv_general_dilated(
            x, kernel, (stride, stride), padding.upper(), dimension_numbers=numbers
        )
        return (out**3).sum()

    found = jax.jit(jax.vmap(jax.value_and_grad(loss, (0, 1))))(images, kernels)
    for lane in range(LANES):
        value, gradients = jax.value_and_grad(plain, (0, 1))(images[lane], kernels[lane])
        np.testing.assert_allclose(found[0][lane], value, rtol=1e-4)
        for mine, theirs in zip(found[1], gradients, strict=True):
            np.testing.assert_allclose(mine[lane], theirs, rtol=1e-3, atol=1e-3)
    assert set(lane_convolutions.choices().values()) == {form}


def test_fastest_form_is_timed_on_the_device(monkeypatch):
    monkeypatch.setattr(lane_convolutions, "_seconds", {})
    forms = lane_convolutions._forms(lambda x, kernel: x * kernel, lambda x, kernel: x * kernel)
    calls: list[str] = []

    def slow(*arrays):
        calls.append("slow")
        return jax.numpy.linalg.inv(jax.numpy.eye(300) + 0 * arrays[0].sum())

    shapes = [((2,), "float32")] * 2
    assert lane_convolutions._fastest(forms | {"apart": slow}, LANES, shapes, ("forward",)) == "patches"
    assert calls
    calls.clear()
    assert lane_convolutions._fastest(forms | {"apart": slow}, 2 * LANES, shapes, ("forward",)) == "patches"
    assert not calls, "few lanes stand for more"
    assert lane_convolutions._fastest(forms, 1, shapes, ("forward",)) == "apart", "one convolution"
