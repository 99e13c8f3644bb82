"""The faster twins of optimizers take the same steps as Keras."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from objectives import backend
from objectives.backend import kernels
from objectives.training.optimizers import FusedAdam, FusedSGD

pytestmark = pytest.mark.skipif(
    backend.name() != "tensorflow", reason="the twins are Keras' own optimizers elsewhere"
)


def _trained(optimizer: keras.optimizers.Optimizer, steps: int = 7) -> list[np.ndarray]:
    """Return weights and the optimizer's variables after a few steps on the same made-up gradients."""
    rng = np.random.default_rng(0)
    kernel, bias = (keras.Variable(rng.normal(size=shape).astype(np.float32)) for shape in ((5, 3), (3,)))
    optimizer.build([kernel, bias])
    for _ in range(steps):
        gradients = [keras.ops.convert_to_tensor(rng.normal(size=v.shape), "float32") for v in (kernel, bias)]
        optimizer.apply(gradients, [kernel, bias])
    return [np.array(variable) for variable in (kernel, bias, *optimizer.variables)]


@pytest.mark.parametrize(
    ("twin", "own", "config"),
    [
        (FusedAdam, keras.optimizers.Adam, {}),
        (FusedAdam, keras.optimizers.Adam, {"beta_1": 0.5, "epsilon": 1e-3, "weight_decay": 0.1}),
        (FusedAdam, keras.optimizers.Adam, {"amsgrad": True}),
        (FusedSGD, keras.optimizers.SGD, {"momentum": 0.9, "nesterov": True}),
        (FusedSGD, keras.optimizers.SGD, {"momentum": 0.9, "weight_decay": 0.1}),
        (FusedSGD, keras.optimizers.SGD, {}),
    ],
)
def test_twin_optimizer_takes_the_steps_of_keras(twin, own, config):
    def schedule() -> keras.optimizers.schedules.LearningRateSchedule:
        return keras.optimizers.schedules.CosineDecay(0.0, 6, warmup_target=0.1, warmup_steps=2)

    mine, theirs = (_trained(cls(schedule(), **config)) for cls in (twin, own))
    assert len(mine) == len(theirs)
    for one, other in zip(mine, theirs, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("twin", [FusedAdam, FusedSGD])
def test_shared_values_are_computed_once_per_step(twin):
    computed_at = []

    class Schedule(keras.optimizers.schedules.LearningRateSchedule):
        def __call__(self, step):
            computed_at.append(int(step))
            return keras.ops.cast(0.1, "float32")

        def get_config(self):
            return {}

    optimizer = twin(Schedule(), weight_decay=0.1)
    _trained(optimizer, steps=3)
    assert computed_at == [0, 1, 2]
    assert float(optimizer.learning_rate) == pytest.approx(0.1)


def test_corrections_of_adam_are_computed_once_per_step_in_a_graph(monkeypatch):
    import tensorflow as tf

    made = []
    adam_step = kernels.adam_step
    monkeypatch.setattr(kernels, "adam_step", lambda *args: made.append(1) or adam_step(*args))
    optimizer = FusedAdam(0.1)
    variables = [keras.Variable(np.ones(shape, np.float32)) for shape in ((5, 3), (3,))]
    optimizer.build(variables)
    of_the_optimizer = len(optimizer.variables)
    step = tf.function(lambda: optimizer.apply([keras.ops.ones(v.shape) for v in variables], variables))
    for _ in range(3):
        step()
    assert len(made) == 1
    # The corrections compensate moments that begin at zero: equal gradients give equal steps of the learning rate.
    for variable in variables:
        np.testing.assert_allclose(np.array(variable), 0.7, rtol=1e-5)
    assert len(optimizer.variables) == of_the_optimizer
    assert type(optimizer).from_config(optimizer.get_config()).get_config() == optimizer.get_config()


def test_learning_rate_of_twin_optimizer_can_be_set():
    optimizer = FusedAdam(0.1)
    optimizer.learning_rate = 0.5
    assert float(optimizer.learning_rate) == pytest.approx(0.5)


def test_kernel_is_used_where_it_applies(monkeypatch):
    used = []
    monkeypatch.setattr("objectives.backend.kernels.apply_adam", lambda *_: used.append("adam"))
    monkeypatch.setattr("objectives.backend.kernels.apply_momentum", lambda *_: used.append("momentum"))
    _trained(FusedAdam(0.1), steps=1)
    _trained(FusedSGD(0.1, momentum=0.9), steps=1)
    _trained(FusedSGD(0.1), steps=1)
    assert used == ["adam", "adam", "momentum", "momentum"]
