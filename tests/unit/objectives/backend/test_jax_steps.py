"""Training steps on JAX: few programs for calls of many sizes, as on a GPU."""

from __future__ import annotations

import numpy as np
import pytest

from objectives import backend

if backend.name() != "jax":
    pytest.skip("steps of JAX need JAX: make test-jax", allow_module_level=True)

import keras

from objectives.backend import jax_steps


def model() -> keras.Model:
    network = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    network.compile("sgd", "mse")
    return network


def arrays(batches: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(batches)
    return random.normal(size=(batches, 4, 3)), random.normal(size=(batches, 4, 2))


def test_calls_that_grow_compile_two_programs_and_compute_their_batches_alone() -> None:
    keras.utils.set_random_seed(0)
    looped, single = model(), model()
    single.set_weights(looped.get_weights())
    at_once = jax_steps.JaxSteps(looped, np.zeros((4, 2)), None, ())
    one_by_one = jax_steps.JaxSteps(single, np.zeros((4, 2)), None, ())
    at_once._loops, one_by_one._loops = True, False
    for batches in (1, 2, 4, 8, 16, 32, 64, 3):
        found = at_once(arrays(batches))
        assert found == pytest.approx(one_by_one(arrays(batches)), rel=1e-5)
    assert at_once._steps._cache_size() == 2
    for mine, other in zip(looped.get_weights(), single.get_weights(), strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-5)
