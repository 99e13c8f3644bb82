"""Batches made on the device, of examples there or streamed to it, equal those made on the host."""

from __future__ import annotations

from dataclasses import replace

import keras
import numpy as np
import pytest

from objectives import backend
from objectives.augment import Augmentation, Changes, Mixing, Progress
from objectives.augment.mixing import Mixtures
from objectives.data.splits import Data
from objectives.device import Device
from objectives.shipped.digits_cnn import DigitsCNN
from objectives.tasks.classes import cross_entropy
from objectives.training import batches
from objectives.training.batches import Variation, device, hosted, resident, streamed
from objectives.training.mixed_targets import first_accuracy, mixed_loss

AUGMENTATIONS = (
    Augmentation(flip=True),
    Augmentation(shift=3, fill=7),
    Augmentation(rotation_degrees=20, fill=255),
    Augmentation(cutout=4, fill=9),
    Augmentation(cutout=8),
    Augmentation(flip=True, shift=2, rotation_degrees=10, rotated_share=0.5, cutout=3),
)


@pytest.mark.parametrize("augmentation", AUGMENTATIONS)
def test_augmentation_on_the_device_equals_the_host(augmentation):
    images = np.random.default_rng(0).integers(0, 256, (32, 9, 7, 3), dtype=np.uint8)
    drawn = vars(augmentation.draw(32, np.random.default_rng(1)))
    given = {kind: keras.ops.convert_to_tensor(value) for kind, value in drawn.items() if value is not None}
    on_device = augmentation.apply(keras.ops.convert_to_tensor(images), Changes(**given))
    expected = augmentation(images, np.random.default_rng(1))
    assert keras.backend.standardize_dtype(on_device.dtype) == "uint8"
    difference = keras.ops.convert_to_numpy(on_device).astype(int) - expected
    # A rotated pixel can lie half way between two values.
    assert np.abs(difference).max() <= (1 if augmentation.rotation_degrees else 0)
    assert (difference != 0).mean() < 0.01


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_mixtures_on_the_device_equal_the_host(dtype):
    images = np.random.default_rng(0).integers(0, 256, (32, 9, 7, 3)).astype(dtype)
    drawn = Mixing(mixup=0.4, cutmix=1.0).draw(32, np.random.default_rng(1))
    expected, shares = drawn.inputs(images)
    given = {name: keras.ops.convert_to_tensor(value) for name, value in vars(drawn).items()}
    mixed, found = map(
        keras.ops.convert_to_numpy, Mixtures(**given).inputs(keras.ops.convert_to_tensor(images))
    )
    np.testing.assert_allclose(mixed.astype(float), expected, atol=1 if dtype == np.uint8 else 1e-3)
    assert (np.abs(mixed.astype(float) - expected) > 0.5).mean() < 0.01
    np.testing.assert_allclose(found, shares, atol=1e-6)


@pytest.fixture(scope="module")
def data() -> Data:
    rng = np.random.default_rng(3)
    labels = np.arange(96) % 10
    images = rng.integers(0, 60, (96, 8, 8, 1), dtype=np.uint8)
    images[np.arange(96), labels % 8] += 100
    return Data(
        x_train=images,
        y_train=labels,
        x_valid=images[:16],
        y_valid=labels[:16],
        x_test=None,
        y_test=None,
        classes=tuple("0123456789"),
        mean=(0.2,),
        std=(0.1,),
    )


def _trained(make, data: Data, variation: Variation) -> tuple[dict[str, float], list[np.ndarray]]:
    """Return metrics and weights after three batches, two of them in one call, the last one in the last epoch."""
    backend.configure(Device(), seed=5)
    model = DigitsCNN().build({"dropout": 0.0}, data)
    loss, metrics = cross_entropy(0.0), ["accuracy"]
    if variation.mixing is not None:
        loss, metrics = mixed_loss(loss), first_accuracy(metrics)
    model.compile("sgd", loss, metrics=metrics)
    advance = make(model, data, variation)
    order = np.random.default_rng(0).permutation(96).reshape(3, 32)
    advance(order[:2], [np.random.default_rng([1, step]) for step in (0, 1)], Progress(length=4))
    last = Progress(epoch=4, place=4, length=4)
    found = advance(order[2:], [np.random.default_rng([1, 2])], last)
    return found, model.get_weights()


@pytest.mark.parametrize(
    ("augmentation", "mixing"),
    [
        (None, None),
        (Augmentation(flip=True, shift=1, cutout=2), None),
        (
            Augmentation(flip="alternating", shift=1, cutout=2, plain_epochs=1),
            Mixing(mixup=0.4, cutmix=1.0, fade=0.5),
        ),
    ],
)
def test_training_on_the_device_equals_the_host(monkeypatch, data, augmentation, mixing):
    variation = Variation.of(augmentation, mixing, seed=2, count=96)
    # A batch of 32 takes 2.3 KiB, so that the two of one call are streamed one after the other.
    monkeypatch.setattr(device, "STREAMED_BYTES", 4096)
    expected, expected_weights = _trained(hosted, data, variation)
    for make in (resident, streamed):
        metrics, weights = _trained(make, data, variation)
        assert metrics.keys() == expected.keys()
        assert metrics["loss"] == pytest.approx(expected["loss"], rel=1e-4), make.__name__
        for mine, theirs in zip(weights, expected_weights, strict=True):
            np.testing.assert_allclose(mine, theirs, atol=1e-5, err_msg=make.__name__)


def test_runs_of_one_process_share_the_examples_on_the_device(data):
    kept = batches.upload(data)
    assert batches.upload(data) is kept
    other = replace(data, y_train=data.y_train[::-1])
    assert batches.upload(other) is not kept
    known = id(other)
    del other
    assert known not in device._uploaded
