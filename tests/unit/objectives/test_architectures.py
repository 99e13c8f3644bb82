"""The networks follow their papers: blocks, shortcuts, normalizations, initial weights and sizes."""

from __future__ import annotations

import math

import keras
import numpy as np
import pytest

from objectives import loader
from objectives.architectures import cnn, pooled_resnet, resnet
from objectives.data.splits import Data
from tests.unit.objectives.valueless import without_values

CLASSES = 10
SIDE, CHANNELS = 16, 3

NETWORKS = {
    "cnn": cnn,
    "resnet": resnet,
    "pooled_resnet": pooled_resnet,
    **{
        name: lambda data, name=name: loader.load(name)().build(loader.load(name).first[0], data)
        for name in loader.names()
        if loader.load(name).dataset is not None
    },
}


@pytest.fixture(scope="module")
def data() -> Data:
    images, labels = np.zeros((1, SIDE, SIDE, CHANNELS), np.uint8), np.zeros(1, np.int64)
    return Data(
        x_train=images,
        y_train=labels,
        x_valid=images,
        y_valid=labels,
        x_test=None,
        y_test=None,
        classes=tuple("0123456789"),
        mean=(0.5, 0.4, 0.3),
        std=(0.3, 0.2, 0.1),
    )


@pytest.fixture(scope="module", params=NETWORKS)
def model(request, data) -> keras.Model:
    keras.utils.set_random_seed(0)
    return NETWORKS[request.param](data)


def of_kind(model: keras.Model, kind: type[keras.layers.Layer]) -> list[keras.layers.Layer]:
    return [layer for layer in model.layers if isinstance(layer, kind)]


class Graph:
    """Finds the layer that made a tensor."""

    def __init__(self, model: keras.Model) -> None:
        self._makers = {id(layer.output): layer for layer in model.layers}

    def source(self, tensor, *kinds: type[keras.layers.Layer]):
        """Return the input of the layers of these kinds, last one first, that made the tensor; None if others did."""
        for kind in kinds:
            maker = self._makers[id(tensor)]
            if not isinstance(maker, kind):
                return None
            tensor = maker.input
        return tensor

    def shortcut(self, add: keras.layers.Add) -> str:
        """Return the kind of shortcut around the two convolutions of a residual block."""
        convolution = (keras.layers.BatchNormalization, keras.layers.Conv2D)
        main = (*convolution, keras.layers.ReLU, *convolution)
        (around,) = (tensor for tensor in add.input if self.source(tensor, *main) is None)
        (through,) = (tensor for tensor in add.input if tensor is not around)
        came_in = self.source(through, *main)
        if around is came_in:
            return "identity"
        if self.source(around, *convolution) is came_in:
            projection = self._makers[id(self._makers[id(around)].input)]
            assert projection.kernel_size == (1, 1)
            return "projection"
        return "neither"


IDENTITY, PROJECTION = "identity", "projection"


@pytest.mark.parametrize(
    ("build", "shortcuts", "shapes"),
    [
        (
            lambda data: resnet(data, widths=(4, 8), depth=2),
            [IDENTITY, IDENTITY, PROJECTION, IDENTITY],
            [(16, 16, 4)] * 2 + [(8, 8, 8)] * 2,
        ),
        (
            resnet,
            [IDENTITY] * 3 + [PROJECTION, IDENTITY, IDENTITY] * 2,
            [(16, 16, 16)] * 3 + [(8, 8, 32)] * 3 + [(4, 4, 64)] * 3,
        ),
        (
            lambda data: pooled_resnet(data, widths=(4, 8), depths=(0, 2), stem=4),
            [IDENTITY] * 2,
            [(4, 4, 8)] * 2,
        ),
        (pooled_resnet, [IDENTITY] * 3, [(8, 8, 64), (4, 4, 128), (2, 2, 256)]),
        (
            NETWORKS["mnist-resnet"],
            [IDENTITY, PROJECTION, PROJECTION],
            [(16, 16, 16), (8, 8, 32), (4, 4, 64)],
        ),
        (NETWORKS["cifar-resnet"], [IDENTITY] * 3, [(8, 8, 64), (4, 4, 128), (2, 2, 256)]),
    ],
    ids=[
        "resnet of 2 stages",
        "resnet",
        "pooled_resnet of 2 stages",
        "pooled_resnet",
        "mnist-resnet",
        "cifar-resnet",
    ],
)
def test_each_residual_block_has_a_shortcut(data, build, shortcuts, shapes):
    with without_values():
        model = build(data)
    adds, graph = of_kind(model, keras.layers.Add), Graph(model)
    assert [graph.shortcut(add) for add in adds] == shortcuts
    assert [tuple(add.output.shape[1:]) for add in adds] == shapes


@pytest.mark.parametrize("name", ["cnn", "cifar-cnn", "mnist-cnn", "digits-cnn"])
def test_plain_network_has_no_shortcut(data, name):
    with without_values():
        assert of_kind(NETWORKS[name](data), keras.layers.Add) == []


def test_default_resnet_is_resnet_20(data):
    with without_values():
        model = resnet(data)
    layers = [layer for layer in of_kind(model, keras.layers.Conv2D) if layer.kernel_size == (3, 3)]
    assert len(layers) + len(of_kind(model, keras.layers.Dense)) == 20
    # 0.27 million in table 6 of the paper.
    assert model.count_params() == pytest.approx(0.27e6, rel=0.03)


def test_every_convolution_is_normalized(model):
    convolutions, graph = of_kind(model, keras.layers.Conv2D), Graph(model)
    normalized = {
        id(found)
        for layer in of_kind(model, keras.layers.BatchNormalization)
        for kinds in ((), (keras.layers.MaxPooling2D,))
        if (found := graph.source(layer.input, *kinds)) is not None
    }
    assert convolutions
    assert [layer.name for layer in convolutions if id(layer.output) not in normalized] == []
    assert [layer.name for layer in convolutions if layer.use_bias] == []


def test_initial_weights_follow_he(model):
    """Variance 2 / fan-in: "Delving deep into rectifiers", He et al. (2015), equation 10."""
    rectified = of_kind(model, keras.layers.Conv2D) + of_kind(model, keras.layers.Dense)[:-1]
    assert rectified
    for layer in rectified:
        kernel = keras.ops.convert_to_numpy(layer.kernel)
        expected = math.sqrt(2 / math.prod(kernel.shape[:-1]))
        # Four standard errors of the standard deviation of so many numbers.
        assert kernel.std() == pytest.approx(expected, rel=4 / math.sqrt(2 * kernel.size)), layer.name
        assert kernel.mean() == pytest.approx(0, abs=4 * expected / math.sqrt(kernel.size)), layer.name


def convolution(channels: int, width: int, side: int = 3) -> int:
    """Return the parameters of a convolution without bias, with the four vectors of its normalization."""
    return side**2 * channels * width + 4 * width


def dense(inputs: int, outputs: int) -> int:
    return (inputs + 1) * outputs


def block(channels: int, width: int, projected: bool) -> int:
    through = convolution(channels, width) + convolution(width, width)
    return through + projected * convolution(channels, width, side=1)


def size_of_cnn(widths, depth, dense_units):
    total, channels = 0, CHANNELS
    for width in widths:
        total += convolution(channels, width) + (depth - 1) * convolution(width, width)
        channels = width
    pixels = (SIDE // 2 ** len(widths)) ** 2
    return total + dense(pixels * channels, dense_units) + dense(dense_units, CLASSES)


def size_of_resnet(widths, depth):
    total, channels = convolution(CHANNELS, widths[0]), widths[0]
    for stage, width in enumerate(widths):
        total += block(channels, width, projected=stage > 0) + (depth - 1) * block(width, width, False)
        channels = width
    return total + dense(channels, CLASSES)


def size_of_pooled_resnet(widths, depths, stem):
    total, channels = convolution(CHANNELS, stem), stem
    for width, depth in zip(widths, depths, strict=True):
        total += convolution(channels, width) + depth * block(width, width, False)
        channels = width
    return total + dense(channels, CLASSES)


CNNS = [((4, 8), 1, 16), ((4, 8), 3, 16), ((8, 8), 1, 16), ((4, 8, 8), 1, 16), ((4, 8), 1, 32)]
RESNETS = [((4, 8), 1), ((4, 8), 3), ((8, 8), 1), ((4, 8, 16), 1)]
POOLED_RESNETS = [((4, 8), (1, 1), 4), ((4, 8), (0, 2), 4), ((8, 16), (1, 1), 4), ((4, 8), (1, 1), 8)]


@pytest.mark.parametrize(("widths", "depth", "units"), CNNS)
@pytest.mark.parametrize("name", ["cnn", "cifar-cnn", "mnist-cnn"])
def test_widths_and_depth_set_the_size_of_a_plain_network(data, name, widths, depth, units):
    model = _sized(data, name, widths=widths, depth=depth, dense=units)
    assert model.count_params() == size_of_cnn(widths, depth, units)


@pytest.mark.parametrize(("widths", "depth"), RESNETS)
@pytest.mark.parametrize("name", ["resnet", "mnist-resnet"])
def test_widths_and_depth_set_the_size_of_a_residual_network(data, name, widths, depth):
    model = _sized(data, name, widths=widths, depth=depth)
    assert len(of_kind(model, keras.layers.Add)) == depth * len(widths)
    assert model.count_params() == size_of_resnet(widths, depth)


@pytest.mark.parametrize(("widths", "depths", "stem"), POOLED_RESNETS)
@pytest.mark.parametrize("name", ["pooled_resnet", "cifar-resnet"])
def test_widths_and_depths_set_the_size_of_a_pooled_residual_network(data, name, widths, depths, stem):
    model = _sized(data, name, widths=widths, depths=depths, stem=stem)
    assert len(of_kind(model, keras.layers.Add)) == sum(depths)
    assert model.count_params() == size_of_pooled_resnet(widths, depths, stem)


def _sized(data: Data, name: str, **sizes: object) -> keras.Model:
    """Return the network with these arguments, or that of a subclass of the objective with these attributes."""
    with without_values():
        if not loader.is_shipped(name):
            return NETWORKS[name](data, **sizes)
        shipped = loader.load(name)
        assert [attribute for attribute in sizes if not hasattr(shipped, attribute)] == []
        return type("Sized", (shipped,), sizes)().build(shipped.first[0], data)
