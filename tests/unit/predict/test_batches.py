"""Batches for predictions: decoded images and rows of arrays."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from hpo.errors import DataDamagedError, DataMissingError, HpoError, UsageError
from hpo.predict.batches import array_batches, check_rows, image_batches, read_arrays, with_channels
from objectives.data_options import DataOptions
from objectives.images import entry
from objectives.images.cache import Cache
from objectives.images.decoding import Geometry
from objectives.images.provision import provided
from tests.photos import make_photos


@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
def test_images_have_the_pixels_that_training_has_cached(tmp_path: Path, fit: str) -> None:
    photos = make_photos(tmp_path / "photos", 6)
    cache = Cache(tmp_path / "cache")
    options = DataOptions(source=str(photos), image_fit=fit, test_fraction=0.2)  # type: ignore[arg-type]
    with provided(options, cache) as found:
        folder = cache.entry(found.digest)
        cached = np.load(folder / entry.PIXELS)
        paths = [str(photos / path) for path in entry.paths(folder)]
        batches = list(image_batches(iter(paths), found.about.geometry, 4))
    assert [len(batch.names) for batch in batches] == [4, 4, 4, 4, 2]
    assert [name for batch in batches for name in batch.names] == paths
    np.testing.assert_array_equal(np.concatenate([batch.inputs for batch in batches]), cached)


def test_unreadable_files_are_named_and_the_others_kept(tmp_path: Path) -> None:
    photos = make_photos(tmp_path, 2)
    (tmp_path / "half.png").write_bytes((photos / "disc" / "001.png").read_bytes()[:200])
    (tmp_path / "empty.jpg").write_bytes(b"")
    names = ["disc/000.jpg", "half.png", "absent.jpg", "disc/001.png", "empty.jpg", "a\0b.jpg"]
    [batch] = image_batches((str(tmp_path / name) for name in names), Geometry(8, 8, 3), 10)
    assert batch.names == [str(tmp_path / name) for name in ("disc/000.jpg", "disc/001.png")]
    assert batch.inputs.shape == (2, 8, 8, 3)
    assert {Path(path).name for path in batch.unreadable} == {
        "half.png",
        "absent.jpg",
        "empty.jpg",
        "a\0b.jpg",
    }
    assert batch.unreadable[str(tmp_path / "empty.jpg")] == "it is empty"


def test_only_a_few_batches_are_read_ahead(tmp_path: Path) -> None:
    photo = str(make_photos(tmp_path, 1) / "disc" / "000.jpg")
    taken = 0

    def endless():
        nonlocal taken
        while True:
            taken += 1
            yield photo

    batches = image_batches(endless(), Geometry(4, 4, 3), 2)
    for _ in range(5):
        next(batches)
    batches.close()
    assert taken <= 2 * (5 + 2)


def test_rows_of_arrays_are_named_by_file_and_number(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.arange(10).reshape(5, 2))
    batches = list(array_batches(read_arrays(tmp_path / "x.npy"), "x.npy", 2))
    assert [name for batch in batches for name in batch.names] == [f"x.npy[{row}]" for row in range(5)]
    np.testing.assert_array_equal(batches[1].inputs, [[4, 5], [6, 7]])
    np.savez(tmp_path / "named.npz", image=np.zeros((3, 2)), age=np.zeros((3, 1)))
    [batch] = array_batches(read_arrays(tmp_path / "named.npz"), "named.npz", 10)
    assert {name: part.shape for name, part in batch.inputs.items()} == {"image": (3, 2), "age": (3, 1)}


def test_invalid_arrays_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "one.npy", np.float32(1))
    np.save(tmp_path / "objects.npy", np.array([{}]), allow_pickle=True)
    (tmp_path / "text.npy").write_text("text")
    os.mkfifo(tmp_path / "pipe.npy")
    cases: list[tuple[str, type[HpoError], str]] = [
        ("absent.npy", DataMissingError, "there is no file"),
        ("one.npy", DataDamagedError, "holds no rows"),
        ("objects.npy", DataDamagedError, "it holds Python objects.: write arrays of numbers or strings"),
        ("text.npy", DataDamagedError, "cannot be read"),
        ("pipe.npy", DataDamagedError, "it is not a regular file"),
    ]
    for name, error, message in cases:
        with pytest.raises(error, match=message):
            read_arrays(tmp_path / name)
    with pytest.raises(DataDamagedError, match="different lengths"):
        list(array_batches({"a": np.zeros((2, 1)), "b": np.zeros((3, 1))}, "x.npz", 2))


def test_rows_of_another_shape_or_name_are_refused() -> None:
    shapes = {"image": (8, 8, None), "age": (1,)}
    check_rows({"age": np.zeros((2, 1)), "image": np.zeros((2, 8, 8, 3))}, shapes, "x.npz")
    with pytest.raises(UsageError, match=r"x\.npz has image, but the model takes image, age"):
        check_rows({"image": np.zeros((2, 8, 8, 3))}, shapes, "x.npz")
    with pytest.raises(UsageError, match=r"by name with numpy\.savez"):
        check_rows(np.zeros((2, 8)), shapes, "x.npy")
    with pytest.raises(UsageError, match=r"have the shape \(9,\), but the model takes \(8,\)"):
        check_rows(np.zeros((2, 9)), {"x": (8,)}, "x.npy")


def test_grey_images_get_their_channel() -> None:
    assert with_channels(np.zeros((5, 8, 8)), {"x": (8, 8, 1)}).shape == (5, 8, 8, 1)
    assert with_channels(np.zeros((5, 8, 8)), {"x": (8, 8)}).shape == (5, 8, 8)
