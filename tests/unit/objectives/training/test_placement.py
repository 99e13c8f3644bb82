"""Where training examples lie, on GPUs and hosts of made-up sizes."""

from __future__ import annotations

import resource
from types import SimpleNamespace

import keras
import numpy as np
import pytest

from objectives import backend
from objectives.augment import Augmentation
from objectives.data.splits import Data
from objectives.device import Device
from objectives.local_run import LocalRun
from objectives.training.batches import Variation, advancing, placement
from objectives.training.batches.device import bytes_of

MIB = 2**20


class Brighter(Augmentation):
    """A user's own augmentation."""


@pytest.fixture(scope="module")
def model() -> keras.Model:
    """Takes 3.5 MiB of weights and 128 KiB an example."""
    return keras.Sequential(
        [
            keras.Input((32, 32, 3)),
            keras.layers.Conv2D(32, 3, padding="same"),
            keras.layers.Flatten(),
            keras.layers.Dense(28),
        ]
    )


@pytest.fixture
def data() -> Data:
    """Takes 6 MiB."""
    images, labels = np.zeros((2048, 32, 32, 3), np.uint8), np.zeros(2048, np.int64)
    parts = {"x_train": images, "y_train": labels, "x_valid": images[:1], "y_valid": labels[:1]}
    return Data(**parts, x_test=None, y_test=None, classes=("a",), mean=(0.0,) * 3, std=(1.0,) * 3)


def gpu(room: float | None, host: float | None = None) -> Device:
    """A GPU of which a slot may use some MiB, and its part of the host's memory."""
    usable, part = (None if mib is None else int(mib * MIB) for mib in (room, host))
    return Device("gpu:0", gpu="0", gpu_usable_bytes=usable, host_memory_bytes=part)


def test_memory_of_training_is_estimated(model):
    mib = placement.training_bytes(model, 64) / MIB
    # Weights, gradients and two moments; the inputs and the outputs of two layers of 128 KiB, thrice.
    assert mib == pytest.approx(4 * 3.5 + 3 * 64 * (0.25 + 12 / 1024), rel=0.01)


def test_size_of_examples_is_that_of_inputs_and_targets(data):
    assert bytes_of(data) == 2048 * (32 * 32 * 3 + 8)


@pytest.mark.parametrize(
    ("device", "place"),
    [
        (Device(), "host"),
        (gpu(80_000), "gpu"),
        # Beside 64 MiB of the model, 6 fit into 71 and not into 69.
        (gpu(71), "gpu"),
        (gpu(69), "streamed"),
        (gpu(10), "streamed"),
        # A copy is made in the host's memory first.
        (gpu(80_000, host=13), "gpu"),
        (gpu(80_000, host=11), "streamed"),
        (gpu(None), "gpu"),
    ],
)
def test_examples_lie_on_a_gpu_that_has_room_for_them_next_to_the_model(model, data, device, place):
    assert placement.placed(model, data, Variation(), device, 64)[0] == place


def test_examples_take_at_most_half_of_a_gpu(data):
    small = keras.Sequential([keras.Input((32, 32, 3)), keras.layers.Flatten(), keras.layers.Dense(1)])
    assert placement.placed(small, data, Variation(), gpu(13), 1)[0] == "gpu"
    assert placement.placed(small, data, Variation(), gpu(11), 1)[0] == "streamed"


def test_framework_may_know_of_less_memory_than_the_driver(monkeypatch, model, data):
    monkeypatch.setattr(type(backend.current()), "gpu_bytes", lambda _: 10 * MIB)
    assert placement.placed(model, data, Variation(), gpu(80_000), 64)[0] == "streamed"


def test_large_examples_are_streamed_to_a_gpu_of_unknown_memory(monkeypatch, model, data):
    monkeypatch.setattr(placement, "UNKNOWN_BYTES", 5 * MIB)
    place, reason = placement.placed(model, data, Variation(), gpu(None), 64)
    assert (place, "memory of the GPU is unknown" in reason) == ("streamed", True)


def test_limit_of_a_process_leaves_no_room_for_a_copy(monkeypatch, model, data):
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1000, 1000))
    assert placement.placed(model, data, Variation(), gpu(80_000), 64)[0] == "streamed"


@pytest.mark.parametrize("augmentation", [None, Augmentation(flip=True), Brighter(flip=True)])
def test_augmentation_of_your_own_runs_on_the_host(model, data, augmentation):
    expected = "host" if isinstance(augmentation, Brighter) else "gpu"
    variation = Variation(augmentation=augmentation)
    assert placement.placed(model, data, variation, gpu(80_000), 64)[0] == expected


class OutOfMemoryError(Exception):
    """Stands in for a framework's."""


def _run(device: Device) -> LocalRun:
    return LocalRun(total_epochs=1, metric="val_loss", device=device)


def test_examples_that_another_process_leaves_no_room_for_are_streamed(monkeypatch, model, data):
    def full(*_: object) -> None:
        raise OutOfMemoryError("CUDA_ERROR_OUT_OF_MEMORY")

    monkeypatch.setattr(placement, "upload", full)
    monkeypatch.setattr(placement, "streamed", lambda *_: "streamed")
    logged: list[str] = []
    run = _run(gpu(80_000))
    monkeypatch.setattr(run, "log", logged.append)
    assert advancing(model, data, Variation(), run, 64) == "streamed"
    assert logged == ["training examples are streamed to the GPU: the GPU has no room for them now"]


def test_other_errors_of_a_copy_to_the_gpu_are_raised(monkeypatch, model, data):
    monkeypatch.setattr(placement, "upload", lambda *_: {}["no such key"])
    with pytest.raises(KeyError):
        advancing(model, data, Variation(), _run(gpu(80_000)), 64)


def test_models_of_your_own_class_have_outputs_of_unknown_size():
    layer = SimpleNamespace(compute_dtype="float32")
    assert placement._output_bytes(layer) == 0
