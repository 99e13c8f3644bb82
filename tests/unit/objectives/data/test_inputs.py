"""Inputs of any form: converted by blocks, taken without copies where rows are consecutive, refused by row."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from hpo.errors import DiskFullError
from objectives.data import inputs
from objectives.data.errors import ArrayInvalidError


@pytest.mark.parametrize(
    ("given", "dtype", "shape"),
    [
        (np.zeros((3, 4, 5), np.uint8), np.uint8, (4, 5, 1)),
        (np.zeros((3, 4, 5), np.uint16), np.uint16, (4, 5, 1)),
        (np.zeros((3, 4, 5)), np.float32, (4, 5)),
        (np.zeros((3, 4, 5, 2), np.float16), np.float32, (4, 5, 2)),
        (np.zeros((3, 7), ">f4"), np.float32, (7,)),
        (np.zeros((3, 7), bool), np.uint8, (7,)),
        (np.zeros((3, 7), np.int64), np.int64, (7,)),
        (np.full((3, 2), 1.7e9 + 0.1), np.float32, (2,)),
        (np.array([[0.1 + 0.2], [0.3], [0.3]]), np.float32, (1,)),
        (np.arange(3.0), np.float32, (1,)),
        (np.arange(3), np.int64, (1,)),
        (np.array(["a", "bcd", ""]), "U3", ()),
        (np.array([b"a", b"bcd", b""]), "U3", ()),
        (np.array(["a", "bcd", ""], object), "U3", ()),
        (np.array([["a", "b"]] * 3, np.dtypes.StringDType()), "U1", (2,)),
        (np.array([[1, 2.5]] * 3, object), np.float32, (2,)),
    ],
)
def test_input_gets_a_type_that_models_are_trained_on(given, dtype, shape):
    x = inputs.checked(given, "x_train")
    assert (x.dtype, x.shape) == (np.dtype(dtype), (3, *shape))


def test_several_inputs_keep_their_names_and_order():
    x = inputs.checked({"b": np.zeros((3, 2)), "a": np.zeros((3, 4, 4), np.uint8)}, "x_train")
    assert inputs.shape_of(x) == {"b": (2,), "a": (4, 4, 1)}
    assert list(x) == ["b", "a"]
    taken = inputs.take(x, np.array([0, 2]))
    assert inputs.count(taken) == 2


def nan(row: int) -> np.ndarray:
    x = np.zeros((9, 2))
    x[row, 1] = np.nan
    return x


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (nan(7), "x_train is nan in row 7"),
        ({1: np.zeros((9, 2)), "1": np.zeros((9, 2))}, r"x_train has inputs of one name \(1 and '1'\)"),
        (nan(7).astype(np.float32), "x_train is nan in row 7"),
        ({"a": np.zeros(9), "b": np.full((9, 2), -np.inf)}, r"x_train\['b'\] is -inf in row 0"),
        ({"a": np.zeros(9), "b": np.zeros(8)}, r"differ in their numbers of rows \(a: 9, b: 8\)"),
        ({}, "x_train is an empty dict"),
        (np.full((9, 2), 1e300), "above 3.4e38"),
        (np.stack([np.arange(9), 1.7e9 + np.arange(9)], axis=1), "x_train .* in column 1, whose differences are lost"),
        (1.7e9 + np.arange(9), "from 1700000000.0 to 1700000008.0 in column 0, whose differences are lost"),
        (np.repeat(1.7e9 + np.arange(3), 6).reshape(9, 2), "in column 0, whose differences are lost"),
        (1.7e9 + np.arange(36.0).reshape(9, 2, 2), "in column 0, whose differences are lost"),
        ({"age": np.zeros(9), "time": 1.7e9 + np.arange(9)}, r"x_train\['time'\] has numbers from"),
        (np.zeros((0, 3)), "x_train is empty"),
        (np.float64(3), "x_train is empty"),
        (np.zeros(9, complex), "x_train is complex128"),
        (np.array(["a", 3], object), "x_train has '3' of type int in row 1"),
        (np.array([2**70, 1], object), "more than 64 bits"),
        (np.ma.array(np.ones((3, 2)), mask=[[0, 0], [0, 1], [0, 0]]), "masked value in row 1"),
        (np.ma.masked, "masked value in row 0"),
        (np.array([b"\xff"]), "not UTF-8"),
    ],
)  # fmt: skip
def test_input_that_cannot_be_used_is_refused(monkeypatch, given, message):
    monkeypatch.setattr(inputs, "BLOCK_BYTES", 32)
    with pytest.raises(ArrayInvalidError, match=message):
        inputs.checked(given, "x_train")


def test_float32_needs_to_keep_differences_of_training_rows_alone():
    """A model is fitted to them; rows to evaluate may all be of one day."""
    years, one_day = 1.7e9 + 3e7 * np.arange(9.0), 1.7e9 + np.arange(9.0)
    for x, trains in ((years, True), (one_day, False)):
        assert inputs.checked(x, "x_test", trains=trains).dtype == np.float32


def test_statistics_of_blocks_are_those_of_all_rows(monkeypatch):
    monkeypatch.setattr(inputs, "BLOCK_BYTES", 32)
    # Within each block constant, and far from the first rows.
    x = np.repeat([0.0, 1.7e9, 1.7e9 + 4e8], 3)
    assert inputs.checked(x, "x_train").dtype == np.float32
    with pytest.raises(ArrayInvalidError, match=r"from 1000000000000.0 to 1000000100000.0 in column 0"):
        inputs.checked(np.repeat([1e12, 1e12 + 5e4, 1e12 + 1e5], 3), "x_train")


def test_text_that_would_fill_memory_is_refused():
    texts = np.array(["a"] * 3000 + ["b" * 1_000_000], object)
    with pytest.raises(
        ArrayInvalidError, match="would take 11 GiB, because its longest text has 1,000,000 char"
    ):
        inputs.checked(texts, "x_train")


def test_consecutive_rows_are_a_view():
    x = np.arange(20).reshape(10, 2)
    taken = inputs.take(x, np.arange(3, 7))
    assert np.shares_memory(taken, x)
    assert taken.tolist() == x[3:7].tolist()
    rest = inputs.joined(taken, x[7:])
    assert np.shares_memory(rest, x)
    assert rest.tolist() == x[3:].tolist()
    assert inputs.joined(taken, x[8:]).tolist() == [*x[3:7].tolist(), *x[8:].tolist()]


@pytest.mark.parametrize("dtype", ["u1", "f4", "U3"])
def test_large_copies_are_files_without_a_name(monkeypatch, tmp_path, dtype):
    monkeypatch.setattr(inputs, "LARGE_BYTES", 10)
    monkeypatch.setattr(inputs, "BLOCK_BYTES", 16)
    x, folder = np.arange(60).reshape(20, 3).astype(dtype), tmp_path / "cache"
    indices = np.array([0, 1, 5, 19])
    taken = inputs.take(x, indices, folder)
    np.testing.assert_array_equal(taken, x[indices])
    assert not taken.flags.writeable
    assert list(folder.iterdir()) == []
    # Two slices of one mapping are joined without a copy.
    assert np.shares_memory(inputs.joined(taken[:2], taken[2:], folder), taken)


def test_large_copies_need_no_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(inputs, "LARGE_BYTES", 1 << 20)
    monkeypatch.setattr(inputs, "BLOCK_BYTES", 1 << 18)
    x = np.zeros((1000, 1000))
    tracemalloc.start()
    converted = inputs.checked(x, "x_train", tmp_path)
    taken = inputs.take(converted, np.arange(0, 1000, 2), tmp_path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (converted.nbytes, taken.nbytes) == (4_000_000, 2_000_000)
    assert peak < converted.nbytes / 4


def test_full_disk_is_one_line(tmp_path, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(inputs, "LARGE_BYTES", 10)
    monkeypatch.setattr(inputs.os, "posix_fallocate", full)
    with pytest.raises(
        DiskFullError, match=r"cannot be written to .* \(No space left on device\): free some space"
    ):
        inputs.take(np.zeros((20, 3)), np.array([0, 2]), tmp_path)
