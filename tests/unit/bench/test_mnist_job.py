"""The job of the comparisons: every contestant gets the same images."""

from __future__ import annotations

import numpy as np
import pytest

from bench.jobs import mnist_job
from bench.peers import fitting
from bench.peers.job import load
from objectives.validation import problem


@pytest.mark.parametrize("name", ["MnistPart", "MnistWhole", "MnistWholeKnown"])
def test_objectives_are_valid(name: str) -> None:
    assert problem(getattr(mnist_job, name)) is None


def test_a_sixth_of_the_images_is_held_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BENCH_SYNTHETIC", "1")
    monkeypatch.setenv("BENCH_IMAGES", "1200")
    data, augmentation = load("MnistPart")
    assert augmentation is None
    assert (len(data.x_train), len(data.x_valid)) == (1000, 200)
    assert np.array_equal(np.bincount(data.y_valid), [20] * 10)
    assert np.array_equal(load("MnistPart")[0].x_train, data.x_train)


def test_all_contestants_augment_the_images_in_the_same_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BENCH_SYNTHETIC", "1")
    monkeypatch.setenv("BENCH_IMAGES", "1200")
    data, augmentation = load("MnistWhole")
    assert augmentation is mnist_job.MnistWhole.augmentation is not None
    fed = fitting.fed({"batch_size": 100}, data, augmentation)["x"]
    labels = np.concatenate([fed[index][1] for index in range(len(fed))])
    assert np.array_equal(np.sort(labels), np.sort(data.y_train))
    shifted, _ = fed[0]
    assert shifted.shape == (100, 28, 28, 1)
    originals = {image.tobytes() for image in data.x_train}
    assert sum(image.tobytes() in originals for image in shifted) < 50
