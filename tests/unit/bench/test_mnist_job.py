"""The job of the comparisons: every contestant gets the same images."""

from __future__ import annotations

import numpy as np
import pytest

from bench import mnist_job
from bench.peers.job import load
from objectives.validation import problem


@pytest.mark.parametrize("name", ["MnistPart", "MnistWhole", "MnistWholeKnown"])
def test_the_objectives_are_sound(name: str) -> None:
    assert problem(getattr(mnist_job, name)) is None


def test_a_sixth_of_the_images_is_held_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BENCH_SYNTHETIC", "1")
    monkeypatch.setenv("BENCH_IMAGES", "1200")
    data = load("MnistPart")
    assert (len(data.x_train), len(data.x_valid)) == (1000, 200)
    assert np.array_equal(np.bincount(data.y_valid), [20] * 10)
    assert np.array_equal(load("MnistPart").x_train, data.x_train)
