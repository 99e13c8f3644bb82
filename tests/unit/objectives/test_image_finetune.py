"""`image-finetune`: backbones, their weights, and their own learning rate."""

from __future__ import annotations

import hashlib
import importlib
import socket
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from urllib.error import URLError

import h5py
import keras
import numpy as np
import pytest
from keras import layers
from keras.src.legacy.saving import legacy_h5_format

from hpo.errors import DataMissingError, ObjectiveBrokenError
from hpo.search.space_overrides import narrow_space
from objectives import loader
from objectives.base import DataOptions
from objectives.local_run import LocalRun
from objectives.shipped import image_backbone, image_weights
from objectives.shipped.image_finetune import ImageFinetune
from objectives.shipped.image_objective import ImageObjective
from objectives.spaces.space import Space, space_of
from tests.unit.objectives.test_image_objectives import made

EPOCHS = 4
SMALL = ("MobileNetV3Small", "EfficientNetV2B0")


def preprocess_input(pixels: np.ndarray) -> np.ndarray:
    """Preprocess the images of `Tiny`, as a module of Keras does."""
    return pixels / 255


def Tiny(include_top, weights, input_tensor):
    """Return a backbone with a normalization, whose training is fast."""
    assert (include_top, weights) == (False, None)
    x = layers.Conv2D(4, 3, strides=8, name="tiny_conv")(input_tensor)
    x = layers.ReLU()(layers.BatchNormalization(name="tiny_norm")(x))
    return keras.Model(keras.utils.get_source_inputs(input_tensor), x)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Iterator[type[ImageFinetune]]:
    """Return an objective with a tiny backbone and weights for it."""
    file = tmp_path_factory.mktemp("weights") / "Tiny.weights.h5"
    keras.utils.set_random_seed(7)
    model = Tiny(False, None, keras.Input((96, 96, 3)))
    model.get_layer("tiny_norm").set_weights([np.full(4, value) for value in (1.5, 0.25, 0.1, 2.0)])
    model.save_weights(file)
    data = made((96, 96, 3))
    data = replace(data, x_valid=data.x_train, y_valid=data.y_train)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(keras.applications, "Tiny", Tiny, raising=False)
        attributes = {"weights": str(file), "_data": data, "least_images_per_epoch": 12}
        yield type("OfTiny", (ImageFinetune,), attributes)


PARAMS = ImageFinetune.first[0] | {"backbone": "Tiny", "batch_size": 3, "frozen_share": 0.5}


def trained(objective: type[ImageFinetune], **options: object) -> LocalRun:
    run = LocalRun(EPOCHS, seed=1, **options)
    objective().train(PARAMS, run)
    return run


def weights_of(objective: type[ImageFinetune], run: LocalRun) -> dict[str, np.ndarray]:
    """Return the weights after a run by their names."""
    paths = [variable.path for variable in objective().build(PARAMS, objective._data).variables]
    return {path: run.checkpoint.state[f"model/{index:04d}"] for index, path in enumerate(paths)}


@pytest.fixture(scope="module")
def whole(tiny) -> LocalRun:
    """Return a run that trains on from the switch, half way, without an interruption."""
    return trained(tiny)


@pytest.fixture(scope="module")
def parts(tiny) -> list[LocalRun]:
    """Return the runs of one that was interrupted after each epoch."""
    found: list[LocalRun] = []
    for epoch in range(1, EPOCHS + 1):
        found.append(trained(tiny, stop_after=epoch, resume=found[-1].checkpoint if found else None))
    return found


def test_backbone_is_frozen_then_tuned(tiny, whole, parts):
    begun = {
        variable.path: np.array(variable.value) for variable in tiny().build(PARAMS, tiny._data).variables
    }
    assert begun["tiny_norm/gamma"].tolist() == [1.5] * 4
    frozen, tuned = weights_of(tiny, parts[1]), weights_of(tiny, whole)
    body = [path for path in begun if path.startswith("tiny")]
    assert len(body) == 6
    for path in body:
        np.testing.assert_array_equal(begun[path], frozen[path])
        # Batch normalization stays as it was pretrained.
        assert (tuned[path] == frozen[path]).all() == path.startswith("tiny_norm"), path
    assert all((begun[path] != frozen[path]).any() for path in ("logits/kernel", "logits/bias"))


def test_run_that_was_interrupted_at_the_switch_equals_uninterrupted_run(whole, parts):
    last = {name: value for name, value in whole.history[-1].items() if name != "images_per_second"}
    assert {name: value for name, value in parts[-1].history[-1].items() if name in last} == last
    assert whole.checkpoint.state.keys() == parts[-1].checkpoint.state.keys()
    for name, value in whole.checkpoint.state.items():
        np.testing.assert_array_equal(value, parts[-1].checkpoint.state[name], err_msg=name)


@pytest.mark.parametrize("kind", ["sgd", "adam"])
def test_backbone_learns_at_its_own_rate(tiny, kind):
    """Measured against the same steps of the plain optimizer, whose rate is the backbone's."""
    gradient = np.full(3, 0.5, np.float32)
    found = {}
    for rate in (1.0, 0.1):
        objective = tiny()
        objective.build(PARAMS, tiny._data)
        params = PARAMS | {"optimizer": kind, "frozen_share": 0.0, "backbone_rate": rate, "weight_decay": 0.5}
        optimizer = objective.optimizer(params, 10)
        variables = [
            keras.Variable(np.ones(3, np.float32), name="kernel"),
            layers.Dense(3, name="logits"),
        ]
        variables[1].build((None, 1))
        body, head = variables[0], variables[1].kernel
        head.assign(np.ones((1, 3)))
        optimizer.build([body, head])
        for _ in range(3):
            optimizer.apply(
                [keras.ops.convert_to_tensor(gradient), keras.ops.convert_to_tensor(gradient[None])]
            )
        found[rate] = 1 - np.array(body.value), 1 - np.array(head.value)[0]
    np.testing.assert_allclose(found[0.1][0], 0.1 * found[1.0][0], rtol=1e-2)
    np.testing.assert_array_equal(found[0.1][1], found[1.0][1])
    # The head alone has weight decay.
    assert (found[1.0][1] > found[1.0][0]).all()


def test_network_without_weights_is_trained_from_the_first_step(tiny):
    plain = type("Plain", (tiny,), {"weights": None})
    model = plain().build(PARAMS, plain._data)
    (norm,) = (layer for layer in model.layers if isinstance(layer, layers.BatchNormalization))
    assert norm.trainable
    # At first its statistics are those of the images, and not 0 and 1.
    convolved = np.array(keras.Model(model.input, norm.input)(plain._data.x_train))
    np.testing.assert_allclose(norm.moving_mean, convolved.mean((0, 1, 2)), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(norm.moving_variance, convolved.var((0, 1, 2)), rtol=1e-4)
    assert norm.momentum == image_backbone.MOMENTUM
    after = weights_of(plain, trained(plain, stop_after=1))
    assert (after["tiny_norm/moving_mean"] != 0).any()
    assert (after["tiny_norm/gamma"] != 1).any()


@pytest.mark.parametrize(
    ("name", "shape", "task"),
    [("MobileNetV3Small", (32, 40, 1), "binary"), ("EfficientNetV2B0", (100, 96, 3), "regression")],
)
def test_backbone_of_keras_accepts_small_images_of_any_shape(name, shape, task):
    data = made(shape, task=task)
    model = image_backbone.network(name, None, data, 0.2)
    assert (model.input_shape[1:], model.output_shape[1:]) == (shape, (data.output_size,))
    sizes = [layer.output.shape[1:3] for layer in model.layers if isinstance(layer, layers.Resizing)]
    assert sizes == ([(96, 120)] if shape[0] == 32 else [])


@pytest.mark.parametrize("name", ["ResNet50", "ResNet50V2", "DenseNet121", "MobileNetV3Small"])
@pytest.mark.parametrize(("dtype", "scale"), [("uint8", 1), ("uint16", 257)])
def test_images_are_preprocessed_as_in_the_pretraining(name, dtype, scale):
    data = made((96, 96, 3))
    expected = importlib.import_module(getattr(keras.applications, name).__module__).preprocess_input(
        data.x_train.astype(np.float32)
    )
    data = replace(data, x_train=data.x_train.astype(dtype) * scale)
    pixels = keras.Input((96, 96, 3), dtype=dtype)
    prepared = image_backbone._prepared(pixels, getattr(keras.applications, name), data)
    np.testing.assert_allclose(keras.Model(pixels, prepared)(data.x_train), expected, rtol=1e-4, atol=1e-4)


def test_floats_get_the_range_of_photos():
    data = made((96, 96, 1), "float32")
    data = replace(
        data, x_train=np.random.default_rng(0).normal(5, 0.1, data.x_train.shape).astype("float32")
    )
    data = replace(data, mean=(5.0,), std=(0.1,))
    pixels = keras.Input((96, 96, 1))
    prepared = keras.Model(
        pixels, image_backbone._prepared(pixels, keras.applications.MobileNetV3Small, data)
    )
    found = np.array(prepared(data.x_train))
    assert found.shape[-1] == 3
    assert (round(found.mean()), round(found.std())) == (128, 64)


@pytest.mark.parametrize(
    ("backbone", "shape", "message"),
    [
        ("ResNet5", (32, 32, 3), "keras.applications has no backbone 'ResNet5': use one of .*ResNet50, "),
        ("VGG16", (32, 32, 4), "images with 1 or 3 channels, not 4: use image-resnet or image-cnn"),
    ],
)
def test_what_no_backbone_can_do_is_refused_in_one_line(backbone, shape, message):
    with pytest.raises(ObjectiveBrokenError, match=message):
        image_backbone.network(backbone, None, made(shape), 0.0)


def test_weights_of_another_backbone_are_refused_in_one_line(tiny):
    with pytest.raises(
        ObjectiveBrokenError, match=r"Tiny.weights.h5 do not fit VGG16 .*--param backbone=NAME$"
    ):
        image_backbone.network("VGG16", Path(tiny.weights), tiny._data, 0.0)


@pytest.fixture
def offline(tmp_path, monkeypatch) -> list[str]:
    """Return the addresses that are asked for, none of which can be reached."""
    asked: list[str] = []

    def refuse(address: str, *_: object, **__: object) -> None:
        asked.append(address)
        assert 0 < socket.getdefaulttimeout() <= 60
        raise URLError("Network is unreachable")

    monkeypatch.setattr("keras.src.utils.file_utils.urlretrieve", refuse)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.setattr("keras.src.backend.config.keras_home", lambda: str(tmp_path / "keras"), raising=False)
    (tmp_path / "keras").mkdir()
    monkeypatch.delenv(image_weights.VARIABLE, raising=False)
    return asked


def test_missing_weights_are_warned_of_after_one_try(offline):
    objective = ImageFinetune()
    objective._weights = image_weights.find(SMALL, "imagenet")
    assert len(offline) == 1
    assert objective.data_warning() == (
        "there are no pretrained weights of MobileNetV3Small and EfficientNetV2B0 on this host (they cannot be"
        f" downloaded (URL fetch failure on {offline[0]}: None -- Network is unreachable)), so training begins with"
        " random ones: put a file of them into a folder and set HPO_WEIGHTS to it"
    )
    assert objective.describe_data() == "MobileNetV3Small: random weights; EfficientNetV2B0: random weights"


def test_weights_in_the_cache_of_keras_are_used_as_they_are(offline, tmp_path, monkeypatch):
    folder = tmp_path / "keras" / "models"
    folder.mkdir()
    places = {name: folder / Path(image_weights.IMAGENET[name][0]).name for name in SMALL}
    for path in places.values():
        path.write_bytes(b"weights")
    own = image_weights.IMAGENET | {SMALL[0]: (places[SMALL[0]].name, hashlib.md5(b"weights").hexdigest())}
    monkeypatch.setattr(image_weights, "IMAGENET", own)
    objective = ImageFinetune()
    objective._weights = image_weights.find(SMALL, "imagenet")
    assert [one.path for one in objective._weights.values()] == list(places.values())
    # A file with another content is neither replaced nor removed.
    assert {path.read_bytes() for path in places.values()} == {b"weights"}
    assert objective.data_warning() == (
        f"the weights of {SMALL[1]} in {places[SMALL[1]]} are not the ones that Keras offers: remove the file to"
        " download those"
    )
    assert offline == []


@pytest.mark.usefixtures("offline")
def test_downloaded_weights_appear_when_they_are_complete(tmp_path, monkeypatch):
    place, _ = image_weights.IMAGENET[SMALL[0]]
    digest = hashlib.md5(b"weights").hexdigest()
    monkeypatch.setattr(image_weights, "IMAGENET", {SMALL[0]: (place, digest)})
    folder = tmp_path / "keras" / "models"
    contents = iter((b"wei", b"weights"))

    def download(_: str, target: str, *__: object) -> None:
        Path(target).write_bytes(next(contents))
        assert [path.name for path in folder.iterdir() if path.is_file()] == []

    monkeypatch.setattr("keras.src.utils.file_utils.urlretrieve", download)
    assert "corrupted" in image_weights.find(SMALL[:1], "imagenet")[SMALL[0]].reason
    assert list(folder.iterdir()) == []
    found = image_weights.find(SMALL[:1], "imagenet")[SMALL[0]]
    assert found == image_weights.Weights(folder / Path(place).name)
    assert [path.read_bytes() for path in folder.iterdir()] == [b"weights"]


def test_own_weights_are_found_in_a_folder(offline, tmp_path, monkeypatch):
    folder = tmp_path / "weights"
    folder.mkdir()
    own = [folder / "VGG16.h5", folder / Path(image_weights.IMAGENET["EfficientNetV2B0"][0]).name]
    for path in own:
        path.write_bytes(b"weights")
    monkeypatch.setenv(image_weights.VARIABLE, str(folder))
    found = image_weights.find(["VGG16", "EfficientNetV2B0", "VGG19"], "imagenet")
    assert [one.path for one in found.values()] == [*own, None]
    assert found["VGG16"].describe() == "weights VGG16.h5, digest 9a129038d9a0"
    assert found["VGG19"].reason.startswith("only ConvNeXtTiny, ")
    assert offline == []
    assert image_weights.find(["VGG19"], str(own[0]))["VGG19"].path == own[0]
    assert image_weights.find(["VGG16"], str(folder))["VGG16"].path == own[0]
    with pytest.raises(
        DataMissingError, match=r"weights has none of VGG19: name their file VGG19\.weights\.h5, or "
    ):
        image_weights.find(["VGG16", "VGG19"], str(folder))
    for source, variable in ((str(tmp_path / "absent"), str(folder)), ("imagenet", str(tmp_path / "absent"))):
        monkeypatch.setenv(image_weights.VARIABLE, variable)
        with pytest.raises(DataMissingError, match="absent, which does not exist: name a file of weights"):
            image_weights.find(["VGG16"], source)


@pytest.mark.parametrize("name", image_weights.IMAGENET)
def test_weights_are_those_that_keras_loads(name):
    place, digest = image_weights.IMAGENET[name]
    module = importlib.import_module(getattr(keras.applications, name).__module__)
    known = Path(module.__file__).with_name(f"{Path(place).parent.name}.py")
    assert digest in known.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["MobileNetV3Small", "EfficientNetB0"])
def test_pretrained_network_computes_what_that_of_keras_computes(name, tmp_path, monkeypatch):
    """The file has the form of Keras' own, with random values in all variables."""
    make, file, asked = getattr(keras.applications, name), tmp_path / "weights.h5", []

    def get_file(name: str, address: str, **options: str) -> str:
        asked.append((name, address, options["file_hash"]))
        return str(file)

    module = importlib.import_module(make.__module__)
    monkeypatch.setattr(module.file_utils, "get_file", get_file)
    keras.utils.set_random_seed(3)
    body = make(include_top=False, weights=None, input_shape=(96, 96, 3))
    for layer in body.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.set_weights([np.random.default_rng(0).uniform(0.5, 1.5, v.shape) for v in layer.weights])
        elif layer.weights and isinstance(layer, layers.Normalization):
            mean, std = image_backbone._IMAGENET
            layer.set_weights([np.array(mean), np.square(std), np.array(1)])
    with h5py.File(file, "w") as written:
        legacy_h5_format.save_weights_to_hdf5_group(written, body)
    with warnings.catch_warnings(action="ignore"):
        theirs = make(include_top=False, input_shape=(96, 96, 3), pooling="avg")
    if name in image_weights.IMAGENET:
        place, digest = image_weights.IMAGENET[name]
        assert asked == [(Path(place).name, f"{image_weights._SERVER}/{place}", digest)]

    data = made((96, 96, 3))
    ours = image_backbone.network(name, file, data, 0.0)
    # Random layers lose the differences of their inputs, so those after the first convolution are compared too.
    for found, wanted in zip(
        _stem_and_end(ours, ours.layers[-2], data.x_train),
        _stem_and_end(theirs, theirs.layers[-1], data.x_train.astype("float32")),
        strict=True,
    ):
        np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-3 * np.abs(wanted).max())


def _stem_and_end(model: keras.Model, last: layers.Layer, pixels: np.ndarray) -> list[np.ndarray]:
    """Return the outputs of the first convolution and of the last layer."""
    first = next(layer for layer in model.layers if isinstance(layer, layers.Conv2D))
    return [np.array(one) for one in keras.Model(model.input, [first.output, last.output])(pixels)]


@pytest.mark.parametrize(
    ("space", "names"),
    [
        (None, SMALL),
        (narrow_space(ImageFinetune.space, ["backbone=EfficientNetV2B0"]), ["EfficientNetV2B0"]),
        (space_of([{"backbone": "VGG16"}, {"backbone": "VGG19"}, {"backbone": "VGG16"}]), ["VGG16", "VGG19"]),
        # The space of a subclass without this parameter.
        (Space(), ["MobileNetV3Small"]),
    ],
)
def test_weights_are_looked_for_only_where_the_study_needs_them(monkeypatch, space, names):
    asked = []
    monkeypatch.setattr(image_weights, "find", lambda names, _: asked.extend(names) or {})
    monkeypatch.setattr(ImageObjective, "prepare", lambda *_: None)
    objective = ImageFinetune()
    objective.study_space = space
    objective.prepare(DataOptions(), final=False)
    assert asked == list(names)


def test_backbones_of_the_space_have_weights_to_download():
    assert (
        set(loader.load("image-finetune").space["backbone"].choices)
        == set(SMALL)
        < set(image_weights.IMAGENET)
    )
