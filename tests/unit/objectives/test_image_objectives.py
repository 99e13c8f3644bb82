"""`image-cnn` and `image-resnet` fit themselves to images of any size, type and task."""

from __future__ import annotations

from dataclasses import replace

import keras
import numpy as np
import pytest

from hpo.errors import ObjectiveBrokenError
from objectives import loader
from objectives.augment import CIFAR10, Augmentation
from objectives.base import DataOptions
from objectives.data.splits import Data
from objectives.local_run import LocalRun
from objectives.shipped.image_objective import chosen_augmentation, halvings
from tests.photos import make_photos
from tests.unit.objectives.valueless import without_values

NAMES = ("image-cnn", "image-resnet")
LARGEST_FEATURES = 1 << 16
"""Number of features that a network for images of at most 512 pixels may have before its last layers."""


def made(shape: tuple[int, ...], dtype: str = "uint8", task: str = "classes", classes: int = 3) -> Data:
    """Return six images of random pixels."""
    images = np.random.default_rng(0).integers(0, 256, (6, *shape)).astype(dtype)
    targets = {
        "classes": np.arange(6) % classes,
        "binary": np.arange(6) % 2,
        "labels": np.eye(6, classes, dtype=np.uint8),
        "regression": np.ones((6, classes), np.float32),
    }[task]
    mean, std = ((value,) * shape[-1] for value in (0.5, 0.25))
    return Data(
        x_train=images,
        y_train=targets,
        x_valid=images[:0],
        y_valid=targets[:0],
        x_test=None,
        y_test=None,
        classes=tuple("abc")[: 2 if task == "binary" else classes],
        mean=mean,
        std=std,
        task=task,
    )


def network(name: str, data: Data) -> keras.Model:
    objective = loader.load(name)
    return objective().build(objective.first[0], data)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("shape", "reduced"),
    [
        ((1, 1, 3), 0),
        ((8, 8, 1), 0),
        ((20, 200, 4), 0),
        ((63, 90, 3), 0),
        ((64, 64, 3), 1),
        ((224, 224, 3), 2),
        ((512, 384, 3), 3),
    ],
)
def test_network_accepts_images_of_any_size(name, shape, reduced):
    data = made(shape)
    with without_values():
        model = network(name, data)
    assert (model.input_shape, model.output_shape) == ((None, *shape), (None, 3))
    assert halvings(data) == reduced
    maps = [layer.output.shape[1:] for layer in model.layers if len(layer.output.shape) == 4]
    assert 1 <= min(maps[-1][:2]) <= 8
    assert np.prod(maps[-1]) <= LARGEST_FEATURES
    # The second convolution of a large image already sees a quarter of the pixels or fewer.
    first = next(layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D))
    assert min(first.output.shape[1:3]) <= 256


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("dtype", "task", "outputs"),
    [
        ("uint8", "binary", 1),
        ("uint16", "labels", 3),
        ("float32", "regression", 3),
        ("float32", "classes", 3),
    ],
)
def test_network_has_an_output_for_each_task(name, dtype, task, outputs):
    data = made((16, 12, 3), dtype, task)
    model = network(name, data)
    found = keras.ops.convert_to_numpy(model(data.x_train))
    assert (found.shape, np.isfinite(found).all()) == ((6, outputs), True)


@pytest.mark.parametrize(("dtype", "scale"), [("uint8", 255), ("uint16", 65535), ("float32", 1)])
def test_pixels_of_every_type_are_normalized(dtype, scale):
    data = made((8, 8, 3), dtype)
    model = network("image-resnet", data)
    (layer,) = (layer for layer in model.layers if isinstance(layer, keras.layers.Normalization))
    normalized = keras.Model(model.input, layer.output)(data.x_train)
    np.testing.assert_allclose(normalized, (data.x_train / scale - 0.5) / 0.25, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("name", "twin"), [("image-cnn", "cifar-cnn"), ("image-resnet", "cifar-resnet")])
def test_small_photos_get_the_network_and_augmentation_of_cifar(name, twin):
    data = replace(made((32, 32, 3)), mean=(0.4914, 0.4822, 0.4465))
    configs = []
    for each in (name, twin):
        keras.utils.clear_session()
        with without_values():
            configs.append(loader.load(each)().build(loader.load(name).first[0], data).get_config())
    assert configs[0] == configs[1]
    assert loader.load(name)().augment(data) == CIFAR10 == loader.load(twin)().augment(data)
    assert loader.load(name).label_smoothing == loader.load(twin).label_smoothing


@pytest.mark.parametrize("side", [8, 20, 64, 300])
def test_augmentation_is_in_proportion_to_the_image(side):
    photo = chosen_augmentation(made((side, 2 * side, 3)))
    assert (photo.flip, photo.shift, photo.cutout, photo.fill) == (True, side // 8, side // 4, 128)
    grey = chosen_augmentation(made((side, 2 * side, 1)))
    assert grey == Augmentation(shift=side // 14, fill=grey.fill)
    # A target may be a place or an angle.
    assert chosen_augmentation(made((side, side, 3), task="regression")) is None


@pytest.mark.parametrize(
    ("dtype", "ground"), [("uint8", 0), ("uint8", 250), ("uint16", 60_000), ("float32", -1.5)]
)
def test_grey_images_are_filled_with_their_ground(dtype, ground):
    data = made((28, 28, 1), dtype)
    images = np.full_like(data.x_train, ground)
    images[:, 8:20, 8:20] = data.x_train[:, 8:20, 8:20]
    assert chosen_augmentation(replace(data, x_train=images)).fill == ground


def test_photos_of_floats_are_filled_with_their_mean():
    assert chosen_augmentation(made((16, 16, 3), "float32")).fill == 0.5
    assert chosen_augmentation(made((16, 16, 3), "uint16")).fill == round(65535 / 2)


def test_augmentation_of_a_subclass_is_used():
    own = type("Own", (loader.load("image-cnn"),), {"augmentation": Augmentation()})
    assert own().augment(made((32, 32, 3))) == Augmentation()


@pytest.mark.parametrize("name", ["image-cnn", "image-resnet", "image-finetune"])
@pytest.mark.parametrize("shape", [(13,), (20, 4)])
def test_other_inputs_are_refused_in_one_line(name, shape):
    with pytest.raises(
        ObjectiveBrokenError, match=r"train on images .* write an objective with a model for them$"
    ):
        network(name, made(shape, "float32"))


def test_few_photos_are_learned(tmp_path):
    """Sixty images, of which 43 are for training."""
    objective = loader.load("image-cnn")()
    photos = make_photos(tmp_path / "photos", 20, side=(16, 24))
    objective.prepare(DataOptions(source=str(photos), cache_dir=str(tmp_path / "cache")), final=False)
    assert len(objective._data.x_train) == 43
    run = LocalRun(2)
    objective.train(objective.first[0] | {"dropout": 0.0}, run)
    # At least five hundred images an epoch, in batches of 32.
    assert run.ticks[-1][1:] == (16, 16 * 32)
    assert run.history[-1]["loss"] < run.history[0]["loss"]


def test_sgd_at_a_high_rate_learns_a_regression_on_few_images():
    images = np.random.default_rng(0).integers(0, 256, (9, 8, 8, 3)).astype("uint8")
    targets = np.arange(0, 9_000, 1_000, np.float32)[:, None]
    data = replace(made((8, 8, 3), task="regression", classes=1), x_train=images, y_train=targets)
    objective = type("Own", (loader.load("image-resnet"),), {"task": "regression"})()
    objective._data = replace(data, x_valid=images, y_valid=targets)
    run = LocalRun(1)
    params = objective.first[1]
    assert (params["optimizer"], params["learning_rate"]) == ("sgd", 0.2)
    objective.train(params, run)
    assert run.history[-1]["val_r2"] > 0
