"""The line on an objective's data names source, number of images, limit and digest."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from objectives.base import DataOptions
from objectives.data import description, inputs
from objectives.data.arrays import Arrays
from objectives.data.description import describe, digest, has_test_set, validated
from objectives.data.splits import Data, split


def my_images() -> None:
    """A function that loads data."""


def data(options: DataOptions, *, final: bool = False) -> Data:
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 256, (2000, 4, 4, 1), dtype=np.uint8), np.arange(2000) % 4
    return split(Arrays(x, y, x[:10], y[:10]), options, final)


@pytest.mark.parametrize(
    ("options", "final", "count"),
    [
        (DataOptions(), False, 200),
        (DataOptions(limit=1000), False, 111),
        # Each row is held out once.
        (DataOptions(folds=4), False, 2000),
        (DataOptions(), True, None),
    ],
)
def test_number_of_validated_images_is_read_from_the_description(
    options: DataOptions, final: bool, count: int | None
) -> None:
    found = data(options, final=final)
    assert validated(f"{describe('digits', options, found)}; Net: weights of 3 training: 5 images") == count
    assert validated("made by a user") is None


def test_source_images_and_limit_are_named(tmp_path: Path) -> None:
    whole = data(DataOptions())
    line = f"1,800 training and 200 validation images, digest {digest(whole)}"
    assert describe("digits", DataOptions(), whole) == f"digits: {line}"
    assert describe(my_images, DataOptions(), whole) == f"{__name__}.my_images: {line}"
    (tmp_path / "mine.npz").touch()
    assert describe("mine", DataOptions(str(tmp_path)), whole) == f"{tmp_path.resolve()}/mine.npz: {line}"
    limited = DataOptions(limit=1000)
    assert "images, limited to 1,000, digest" in describe("digits", limited, data(limited))
    assert "2,000 training images, digest" in describe(
        "digits", DataOptions(), data(DataOptions(), final=True)
    )


def test_digest_follows_content_and_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    whole, again = data(DataOptions()), data(DataOptions())
    assert digest(whole) == digest(again)
    assert digest(whole) != digest(data(DataOptions(split_seed=1)))
    again.x_train[7, 0, 0, 0] ^= 1
    assert digest(whole) != digest(again)
    assert digest(whole) != digest(replace(whole, y_valid=whole.y_valid[::-1]))
    # Of much data, images all over it.
    monkeypatch.setattr(description, "MOST_BYTES", 100)
    sampled = digest(whole)
    whole.x_train[-10:] ^= 1
    whole.x_train[:1] ^= 1
    assert digest(whole) != sampled


def test_any_input_and_target_is_digested(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inputs, "BLOCK_BYTES", 64)
    text, numbers = np.array([f"row {n}" for n in range(40)]), np.arange(40.0, dtype=np.float32)
    arrays = Arrays({"text": text, "age": numbers}, numbers[:, np.newaxis], task="regression", has_test=False)
    whole = split(arrays, DataOptions(), final=False)
    described = describe("mine", DataOptions(), whole)
    assert "36 training and 4 validation rows, without a test set, digest " in described
    assert not has_test_set(described)
    limited = DataOptions(limit=20)
    described = describe("mine", limited, split(arrays, limited, final=False))
    assert not has_test_set(described)
    assert has_test_set(f"made of {described.replace(', without', ' with')}, without a test set, of 5")
    assert has_test_set("made by a user")
    changed = replace(arrays, x_train={"text": text, "age": numbers + 1})
    assert digest(split(changed, DataOptions(), final=False)) != digest(whole)
