"""A traced program is used again for a model of the same shape, with the results of a new one to the last digit."""

from __future__ import annotations

import functools
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np
import pytest

from objectives import backend
from objectives.augment import Augmentation
from objectives.base import DataOptions
from objectives.device import Device
from objectives.errors import FreshProcessError
from objectives.local_run import LocalRun
from objectives.tasks.classes import cross_entropy
from objectives.training import identity, loop
from objectives.training.optimizers import FusedAdam, FusedSGD
from objectives.training.programs import Programs
from tests.unit.objectives.training.kept import sharing
from tests.unit.objectives.training.small_digits import SmallDigits

pytestmark = pytest.mark.skipif(
    backend.name() not in ("tensorflow", "jax"), reason="other backends keep no program from run to run"
)

ADAM = {**SmallDigits.first[0], "weight_decay": 1e-3}
OTHER_NUMBERS = {**ADAM, "learning_rate": 1.3e-3, "dropout": 0.41, "weight_decay": 2e-5}
SGD = {**ADAM, "optimizer": "sgd", "learning_rate": 0.03}
SMALL_BATCHES = {**ADAM, "batch_size": 16}


@pytest.fixture(scope="module")
def digits() -> SmallDigits:
    objective = SmallDigits()
    objective.prepare(DataOptions(limit=400, validation_fraction=0.2), final=False)
    return objective


@contextmanager
def calls_of_steps() -> Iterator[list[None]]:
    """Yield a list with an item for each time that Keras' training step was called, as tracing does."""
    found: list[None] = []
    train_step = keras.Model.train_step
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            keras.Model, "train_step", lambda *arguments: found.append(None) or train_step(*arguments)
        )
        yield found


def _trained(objective: SmallDigits, params: dict[str, Any], seed: int, **options: Any) -> LocalRun:
    run = LocalRun(total_epochs=2, seed=seed, device=Device(precision="float32"), **options)
    objective.train(params, run)
    return run


def _exact(run: LocalRun) -> list[dict[str, float]]:
    return [{name: one for name, one in m.items() if name != "images_per_second"} for m in run.history]


OTHER_MOMENTUM = {**SGD, "momentum": 0.6}
PLAN = [
    (ADAM, 1),
    (OTHER_NUMBERS, 2),
    (OTHER_MOMENTUM, 3),
    (ADAM, 1),
    (SMALL_BATCHES, 4),
    (OTHER_NUMBERS, 2),
]


class Keeping:
    """The runs of the plan in an objective that keeps its programs."""

    def __init__(self, digits: SmallDigits) -> None:
        self.objective = sharing(SmallDigits, digits)
        self.objective.keep_programs()
        with calls_of_steps() as self.traced:
            _trained(self.objective, SGD, 8)
            self.runs = [_trained(self.objective, params, seed) for params, seed in PLAN]


@pytest.fixture(scope="module")
def keeping(digits) -> Keeping:
    return Keeping(digits)


@pytest.fixture(scope="module")
def new(digits) -> list[LocalRun]:
    """Return the first runs of the plan, each with a program of its own."""
    return [_trained(digits, params, seed) for params, seed in PLAN[:3]]


def test_runs_with_a_kept_program_equal_runs_with_new_ones(keeping, new):
    kept = keeping.runs
    assert len(keeping.traced) == 3, "once for each optimizer and size of batches"
    assert keeping.objective.keeps_program()
    for one, other in ((0, 0), (1, 1), (2, 2), (3, 0), (5, 1)):
        assert _exact(kept[one]) == _exact(new[other])
        states = [run.checkpoint.state for run in (kept[one], new[other])]
        assert states[0].keys() == states[1].keys()
        for name, value in states[0].items():
            np.testing.assert_array_equal(value, states[1][name], err_msg=name)


def test_models_with_a_loss_of_keras_share_a_program(digits):
    class Focal(SmallDigits):
        loss, class_weight = "categorical_focal_crossentropy", {3: 2.0}

    new, keeping = sharing(Focal, digits), sharing(Focal, digits)
    keeping.keep_programs()
    _trained(keeping, ADAM, 1)
    assert keeping.keeps_program()
    with calls_of_steps() as traced:
        kept = _trained(keeping, OTHER_NUMBERS, 2)
    assert traced == []
    assert _exact(kept) == _exact(_trained(new, OTHER_NUMBERS, 2))


def test_resumed_run_with_a_kept_program_equals_an_uninterrupted_one(digits, keeping, new):
    objective, whole = keeping.objective, new[0]
    half = _trained(objective, ADAM, 1, stop_after=1)
    _trained(objective, OTHER_NUMBERS, 5)
    assert _exact(_trained(objective, ADAM, 1, resume=half.checkpoint)) == _exact(whole)[1:]
    # A restart compiles the model with another optimizer, so its program serves no other run.
    longer = {"restarts": (1,), "resume": half.checkpoint}
    assert _exact(_trained(objective, ADAM, 1, **longer)) == _exact(_trained(digits, ADAM, 1, **longer))
    assert _exact(_trained(objective, ADAM, 1)) == _exact(whole)


def _model(rate: float = 0.3, units: int = 4, activation: Any = "relu", extra: Any = None) -> keras.Model:
    keras.utils.clear_session(free_memory=False)
    inputs = keras.Input((6,))
    x = keras.layers.Dense(units, activation=activation, kernel_initializer="he_normal")(inputs)
    x = keras.layers.Dropout(rate)(x)
    for layer in extra or ():
        x = layer(x)
    return keras.Model(inputs, keras.layers.Dense(2)(x + 1.0))


def _identity(model: keras.Model, optimizer: Any = None, smoothing: float = 0.0) -> str | None:
    made = optimizer or loop.optimizer({"learning_rate": 0.1, "weight_decay": 0.01}, 10)
    return identity.identity(model, made, cross_entropy(smoothing))


def test_numbers_that_a_step_reads_are_no_part_of_the_identity():
    other = loop.optimizer({"learning_rate": 0.2, "weight_decay": 0.5}, 99)
    assert _identity(_model(rate=0.3)) == _identity(_model(rate=0.7), other) is not None


@pytest.mark.parametrize(
    ("model", "options"),
    [
        ({"rate": 0.0}, {}),
        ({"units": 5}, {}),
        ({"activation": "tanh"}, {}),
        ({"extra": [keras.layers.ReLU()]}, {}),
        ({}, {"smoothing": 0.1}),
        ({}, {"optimizer": loop.optimizer({"learning_rate": 0.1}, 10)}),
        ({}, {"optimizer": FusedAdam(0.1)}),
        ({}, {"optimizer": FusedSGD(0.1, momentum=0.9)}),
    ],
    ids=lambda value: str(value)[:40],
)
def test_other_settings_make_another_identity(model, options):
    found = _identity(_model(**model), **options)
    assert found != _identity(_model())
    if not isinstance(getattr(options.get("optimizer"), "_learning_rate", None), keras.Variable):
        assert found is not None


class Doubled(keras.layers.Dense):
    """A layer of a user, whose code may use anything."""

    def call(self, inputs):
        return 2 * super().call(inputs)


def _with_own_call() -> keras.layers.Layer:
    layer = keras.layers.ReLU()
    layer.call = lambda inputs: inputs * 3.0
    return layer


def _dropping(share: float) -> keras.Model:
    return _model(extra=[keras.layers.Dropout(share, noise_shape=(1, 4))])


def _dropping_maps(share: float) -> keras.Model:
    return _model(extra=[keras.layers.Reshape((2, 2)), keras.layers.SpatialDropout1D(share)])


def _sloping(slope: float) -> keras.Model:
    return _model(extra=[lambda x: keras.ops.leaky_relu(x, negative_slope=slope)])


def _partly_frozen(number: float) -> keras.Model:
    model = _model()
    model.layers[1].kernel.trainable = number > 0.3
    return model


def _normalizing(mean: float) -> keras.Model:
    return _model(extra=[keras.layers.Normalization(mean=np.full(4, mean), variance=np.ones(4))])


@pytest.mark.parametrize("model", [_dropping, _dropping_maps, _sloping, _partly_frozen, _normalizing])
def test_constants_of_a_traced_step_are_part_of_its_identity(model):
    assert _identity(model(0.2)) != _identity(model(0.4)) or _identity(model(0.2)) is None


def test_object_without_settings_leaves_a_model_without_identity():
    layer = keras.layers.Dense(3, kernel_initializer=functools.partial(keras.ops.ones))
    assert _identity(_model(extra=[layer])) is None


def test_changed_class_of_keras_leaves_a_model_without_identity(monkeypatch):
    model = _model()
    assert _identity(model) is not None
    monkeypatch.setattr(keras.layers.Dense, "call", lambda *_: 0.0)
    assert _identity(model) is None


def test_augmentation_draws_the_same_whether_a_program_is_kept_or_not(digits, keeping):
    class Drawing(Augmentation):
        def __call__(self, images, rng):  # noqa: ARG002
            return images * np.uint8(random.random() > 0.5) * np.uint8(np.random.random() > 0.1)

    class Own(SmallDigits):
        augmentation = Drawing()

    made, kept = sharing(Own, digits), sharing(Own, keeping.objective)
    _trained(kept, ADAM, 1)
    assert _exact(_trained(kept, OTHER_NUMBERS, 2)) == _exact(_trained(made, OTHER_NUMBERS, 2))


@pytest.mark.parametrize(
    "model",
    [
        lambda: _model(extra=[Doubled(3)]),
        lambda: _model(extra=[keras.layers.Lambda(lambda x: x * 2.0)]),
        lambda: _model(extra=[_with_own_call()]),
        lambda: _model(activation=lambda x: x * 2.0),
        lambda: type("Own", (keras.Sequential,), {})([keras.Input((6,)), keras.layers.Dense(2)]),
    ],
    ids=["subclass", "Lambda", "changed layer", "activation", "model"],
)
def test_code_of_the_user_in_a_model_leaves_it_without_identity(model):
    assert _identity(model()) is None


def test_process_that_has_trained_others_trains_no_model_without_identity():
    programs, models = Programs(), [_model() for _ in range(4)]
    programs.admit(None, models[0])
    assert not programs.reusable
    for key, model in zip("ab", models[1:], strict=False):
        programs.admit(key, model)
    assert programs.reusable
    with pytest.raises(FreshProcessError):
        programs.admit(None, models[3])


def test_model_of_layers_that_an_earlier_run_has_used_is_not_trained_in_its_process():
    programs, cached = Programs(), _model()
    programs.admit("a", cached)
    again = keras.Model(cached.inputs, keras.layers.Dense(3)(cached.layers[-2].output))
    with pytest.raises(FreshProcessError):
        programs.admit("b", again)


def test_nested_layers_that_an_earlier_run_has_used_are_not_trained_in_its_process():
    programs, cached = Programs(), keras.layers.Dense(4)
    programs.admit("a", _model(extra=[keras.Sequential([keras.Input((4,)), cached])]))
    with pytest.raises(FreshProcessError):
        programs.admit("b", _model(extra=[keras.Sequential([keras.Input((4,)), cached])]))


def test_layers_have_the_names_of_a_process_without_other_models():
    programs = Programs()
    first = keras.layers.Dense(1).name
    keras.layers.Dense(1)
    programs.begin()
    assert keras.layers.Dense(1).name == first


@pytest.mark.skipif(
    backend.name() != "tensorflow", reason="each run sets all of TensorFlow's states elsewhere"
)
def test_process_whose_code_draws_from_a_state_of_tensorflow_keeps_no_program(keeping):
    import tensorflow as tf

    class Drawing(SmallDigits):
        def build(self, params, data):
            tf.random.uniform([])
            return super().build(params, data)

    drawing = sharing(Drawing, keeping.objective)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(backend.current(), "_random_operations", 0)
        _trained(keeping.objective, ADAM, 1)
        assert keeping.objective.keeps_program()
        _trained(drawing, ADAM, 1)
        assert not drawing.keeps_program()
