"""Shapes are those of programs: numbers that a step reads change none, all else does."""

from __future__ import annotations

import random

import keras
import numpy as np
import pytest

from objectives import backend

if backend.name() != "jax":
    pytest.skip("lanes need JAX: KERAS_BACKEND=jax", allow_module_level=True)

from objectives.augment import Augmentation
from objectives.base import DataOptions, Objective
from objectives.device import Device
from objectives.errors import FreshProcessError
from objectives.lanes.lanes import Lanes
from objectives.lanes.shape import NotLanedError, refusal, shape_of
from objectives.local_run import LocalRun
from objectives.shipped.digits_cnn import DigitsCNN
from tests.unit.objectives.lanes.small import Small

ADAM = {**DigitsCNN.first[0], "weight_decay": 1e-3}


@pytest.fixture(scope="module")
def digits() -> DigitsCNN:
    objective = DigitsCNN()
    objective.prepare(DataOptions(limit=100), final=False)
    return objective


def _of(cls: type[DigitsCNN], digits: DigitsCNN) -> DigitsCNN:
    objective = cls()
    objective._data, objective._options = digits._data, digits._options
    return objective


def test_numbers_change_no_shape_and_parts_of_the_program_do(digits):
    shape = shape_of(digits, ADAM)
    assert shape_of(digits, {**ADAM, "learning_rate": 0.1, "dropout": 0.5, "weight_decay": 1e-6}) == shape
    sgd = {**ADAM, "optimizer": "sgd", "momentum": 0.5}
    assert shape_of(digits, sgd) == shape_of(digits, {**sgd, "momentum": 0.99})
    others = [{**ADAM, "batch_size": 64}, sgd, {**sgd, "momentum": 0.0}, {**ADAM, "dropout": 0.0}]
    assert len({shape, *(shape_of(digits, one) for one in others)}) == 5

    class Shifted(DigitsCNN):
        augmentation = Augmentation(shift=1)

    class Smoothed(DigitsCNN):
        label_smoothing = 0.1

    assert len({shape, *(shape_of(_of(cls, digits), ADAM) for cls in (Shifted, Smoothed))}) == 3


def test_shape_leaves_generators_and_names_as_they_were(digits):
    name = keras.layers.Dense(3).name
    random.seed(1)
    np.random.seed(1)
    expected = random.Random(1).random(), np.random.RandomState(1).random()
    shapes = {shape_of(digits, ADAM), shape_of(digits, ADAM)}
    assert len(shapes) == 1
    assert (random.random(), np.random.random()) == expected
    counts = [int(f"{one}_0".split("_")[1]) for one in (name, keras.layers.Dense(3).name)]
    assert counts[1] == counts[0] + 1


def test_losses_of_keras_have_shapes_by_all_their_settings(digits):
    def of(loss, weights=None):
        own = type("Own", (DigitsCNN,), {"loss": loss, "class_weight": weights})
        return shape_of(_of(own, digits), ADAM)

    focal = keras.losses.CategoricalFocalCrossentropy
    losses = ["categorical_focal_crossentropy", "categorical_crossentropy", focal(), focal(gamma=3.0)]
    assert len({of(one) for one in losses}) == len(losses)
    assert of(focal(gamma=3.0)) == of(focal(gamma=3.0))
    weighted = [of(focal(), {3: weight}) for weight in (2.0, 2.0, 3.0)]
    assert len({of(focal()), *weighted}) == 3

    # Settings that are in no configuration.
    huber, cosine = keras.losses.Huber, keras.losses.CosineSimilarity
    assert of(huber(delta=10.0)) != of(huber(delta=0.001))
    assert of(cosine(axis=-1)) != of(cosine(axis=0))

    class OwnFocal(focal):
        pass

    for loss, reason in ((OwnFocal(), "OwnFocal"), (lambda *_: 0.0, "<lambda> of")):
        with pytest.raises(NotLanedError, match=reason):
            of(loss)


def test_reasons_name_the_part_that_has_no_shape(digits):
    class OwnLayer(keras.layers.Dense):
        pass

    class OwnModel(DigitsCNN):
        def build(self, _, data):
            inputs = keras.Input(data.input_shape)
            x = keras.layers.Flatten()(inputs)
            return keras.Model(inputs, OwnLayer(data.output_size, name="mine")(x))

    class OwnOptimizer(DigitsCNN):
        def optimizer(self, *_):
            return keras.optimizers.Lion()

    class OwnAugmentation(DigitsCNN):
        class Noise(Augmentation):
            pass

        augmentation = Noise()

    for cls, reason in (
        (OwnModel, "layer 'mine'"),
        (OwnOptimizer, "Lion"),
        (OwnAugmentation, "augmentation is a class of your own"),
    ):
        with pytest.raises(NotLanedError, match=reason):
            shape_of(_of(cls, digits), ADAM)


def test_objective_that_trains_by_itself_has_no_lanes(digits, monkeypatch):
    class Own(Objective):
        def train(self, params, run):
            pass

    assert refusal(digits) is None
    assert "trains by a method of its own" in str(refusal(Own()))
    monkeypatch.setattr(backend, "name", lambda: "tensorflow")
    assert "need JAX" in str(refusal(digits))


def test_model_that_build_keeps_trains_in_no_lane(digits):
    """It would have the weights of the model whose shape was told, or of another trial."""
    kept: list[keras.Model] = []

    class Kept(Small):
        def build(self, params, data):
            kept.append(kept[0] if kept else super().build(params, data))
            self.calls = len(kept)
            return kept[-1]

    objective = _of(Kept, digits)
    shape_of(objective, ADAM)
    assert not hasattr(objective, "calls")
    with pytest.raises(NotLanedError, match="layers that it has returned before"):
        shape_of(objective, ADAM)
    with Lanes(1) as lanes, lanes.lane(0), pytest.raises(FreshProcessError):
        objective.train(ADAM, LocalRun(total_epochs=1, device=Device(precision="float32")))
