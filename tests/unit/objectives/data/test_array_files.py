"""Array files and data functions: valid ones are read, invalid ones refused in one line."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from hpo.errors import DataDamagedError
from objectives.data import array_files, arrays, inputs


def content(**changes: object) -> dict[str, object]:
    rng = np.random.default_rng(0)
    valid = {
        "x_train": rng.integers(0, 256, (20, 4, 5), dtype=np.uint8),
        "y_train": np.arange(20, dtype=np.uint8) % 3,
        "x_test": rng.integers(0, 256, (6, 4, 5), dtype=np.uint8),
        "y_test": (np.arange(6) % 3).reshape(6, 1),
    }
    return {name: value for name, value in (valid | changes).items() if value is not None}


CLASSES = ("a", "b", "c")
VALIDATION = {"x_val": np.full((3, 4, 5), 7, np.uint8), "y_val": np.array([2, 1, 0])}


def write(path: Path, **changes: object) -> Path:
    np.savez(path, **content(**changes))
    return path


def test_images_get_a_channel_and_labels_one_axis(tmp_path):
    read = array_files.read(write(tmp_path / "tiny.npz"), CLASSES, test=True)
    assert (read.x_train.shape, read.x_train.dtype) == ((20, 4, 5, 1), np.uint8)
    assert (read.y_test.shape, read.y_test.dtype) == ((6,), np.int64)


def test_test_set_is_checked_before_any_trial_and_read_only_on_request(tmp_path):
    path = write(tmp_path / "tiny.npz")
    assert array_files.read(path, CLASSES, test=False).x_test is None
    assert array_files.read(path, CLASSES, test=True).x_test is not None
    write(path, x_test=np.full((3, 4, 5), np.nan), y_test=np.zeros(3))
    with pytest.raises(DataDamagedError, match="x_test is nan in row 0"):
        array_files.read(path, CLASSES, test=False)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"y_train": None}, "no array y_train"),
        ({"x_train": np.zeros((20, 4, 5, 1), np.float32)}, "x_test is uint8, x_train float32"),
        ({"x_train": np.zeros((20, 4), np.uint8)}, r"x_test has rows of \(4, 5, 1\), x_train of \(4,\)"),
        ({"x_train": np.zeros((0, 4, 5), np.uint8), "y_train": np.zeros(0, int)}, "x_train is empty"),
        ({"y_train": np.zeros(19, int)}, "x_train has 20 rows but y_train 19"),
        ({"y_train": np.full(20, 0.5)}, "y_train is 0.5 in row 0, and classes are whole numbers"),
        ({"y_train": np.zeros((20, 2), int)}, "y_train has 0 classes in row 0, and a one-hot row has one"),
        ({"y_train": np.full(20, 3)}, "labels from 3 to 3, not 0 to 2"),
        ({"y_train": np.full(20, -1)}, "labels from -1 to -1"),
        ({"y_train": np.array([None] * 20)}, "y_train has Python objects: save strings as"),
        (
            {"x_test": np.zeros((6, 5, 5), np.uint8)},
            r"x_test has rows of \(5, 5, 1\), x_train of \(4, 5, 1\)",
        ),
        ({"x_val": np.zeros((6, 4, 5), np.uint8)}, "it has x_val, which would not be used"),
        (
            {"x_dev": np.zeros(1), "y_dev": np.zeros(1)},
            r"x_dev, y_dev, which would not .*name .* x_val and y_val",
        ),
        (
            {"x_val": np.zeros((2, 5, 5), np.uint8), "y_val": np.zeros(2, int)},
            r"x_val has rows of \(5, 5, 1\), x_train of \(4, 5, 1\)",
        ),
        (
            VALIDATION | {"x_valid": np.zeros(1), "y_valid": np.zeros(1)},
            r"several validation sets \(val, valid\)",
        ),
    ],
)
def test_invalid_file_is_reported_with_cause_and_remedy(tmp_path, changes, message):
    path = write(tmp_path / "tiny.npz", **changes)
    with pytest.raises(DataDamagedError, match=message) as caught:
        array_files.read(path, CLASSES, test=True)
    assert str(path) in str(caught.value)
    assert "write it again" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_advice_on_another_task_comes_before_that_on_other_arrays(tmp_path):
    path = write(tmp_path / "tiny.npz")
    with pytest.raises(
        DataDamagedError, match=r"such as .classes. \(--task classes\), or write it again with valid"
    ):
        array_files.read(path, None, test=False, task="binary")


@pytest.mark.parametrize("damage", ["empty", "text", "truncated", "flipped", "npy"])
def test_file_that_is_no_archive_is_refused(tmp_path, damage):
    path = write(tmp_path / "tiny.npz")
    whole = path.read_bytes()
    if damage == "npy":
        with path.open("wb") as file:
            np.save(file, np.zeros(3))
    else:
        path.write_bytes(
            {
                "empty": b"",
                "text": b"<html>not found</html>",
                "truncated": whole[: len(whole) // 2],
                "flipped": whole[:200] + bytes([whole[200] ^ 0xFF]) + whole[201:],
            }[damage]
        )
    with pytest.raises(DataDamagedError, match=r"tiny\.npz cannot be used: it cannot be read"):
        array_files.read(path, CLASSES, test=True)


def test_folder_instead_of_the_file_is_refused(tmp_path):
    with pytest.raises(DataDamagedError, match="it has no array x_train, y_train"):
        array_files.read(tmp_path, CLASSES, test=False)


def test_data_function_can_omit_the_test_set_until_it_is_needed():
    data = content()
    train = (data["x_train"], data["y_train"])
    for returned in (train, [train], (train, (data["x_test"], data["y_test"]))):
        assert arrays.call(lambda returned=returned: returned, None, test=False).x_train.shape == (
            20,
            4,
            5,
            1,
        )
    assert not arrays.call(lambda: train, None, test=True).has_test


@pytest.mark.parametrize("returned", [None, 3, (), (1, 2), {"x": 1}, [(np.zeros(1), [[0]])]])
def test_data_function_that_returns_something_else_is_refused(returned):
    def load_pets():
        return returned

    with pytest.raises(DataDamagedError, match=r"load_pets must return \(x_train, y_train\)"):
        arrays.call(load_pets, None, test=False)


def test_data_function_that_returns_invalid_arrays_is_refused():
    def load_pets():
        return np.zeros((2, 4, 4), complex), np.zeros(2, int)

    with pytest.raises(DataDamagedError, match="load_pets returns invalid data: x_train is complex128, not"):
        arrays.call(load_pets, None, test=False)


@pytest.mark.parametrize("name", ["val", "valid", "validation"])
@pytest.mark.parametrize("test", [False, True])
def test_validation_arrays_of_a_file_are_read(tmp_path, name, test):
    changes = {key.replace("val", name): array for key, array in VALIDATION.items()}
    read = array_files.read(write(tmp_path / "tiny.npz", **changes), CLASSES, test)
    assert read.x_valid.shape == (3, 4, 5, 1)
    assert read.y_valid.tolist() == [2, 1, 0]
    assert (read.x_test is not None) == test


@pytest.mark.parametrize("test", [False, True])
def test_second_of_three_pairs_is_the_validation_set(test):
    data = content() | VALIDATION
    pairs = [(data[f"x_{split}"], data[f"y_{split}"]) for split in ("train", "val", "test")]
    read = arrays.call(lambda: pairs, None, test)
    assert read.y_valid.tolist() == [2, 1, 0]
    assert (read.y_test is not None) == test
    if test:
        assert read.y_test.tolist() == [0, 1, 2, 0, 1, 2]


def test_function_that_returns_four_pairs_is_refused():
    pair = (content()["x_train"], content()["y_train"])
    with pytest.raises(DataDamagedError, match="returns 4 pairs of arrays: return one"):
        arrays.call(lambda: [pair] * 4, None, test=False)


def test_encrypted_archive_is_refused(tmp_path):
    path = write(tmp_path / "tiny.npz")
    whole = bytearray(path.read_bytes())
    # The flag, in the headers of the first member and in its entry of the directory.
    whole[6] |= 1
    whole[whole.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(whole)
    with pytest.raises(DataDamagedError, match="x_train is encrypted"):
        array_files.read(path, CLASSES, test=True)


def test_array_that_claims_another_size_is_refused_before_memory_is_taken(tmp_path):
    path = tmp_path / "tiny.npz"
    huge = b"{'descr': '|u1', 'fortran_order': False, 'shape': (10000000000, 10000), }"
    header = b"\x93NUMPY\x01\x00" + len(huge).to_bytes(2, "little") + huge
    with zipfile.ZipFile(path, "w") as archive:
        for name in arrays.NAMES:
            archive.writestr(f"{name}.npy", header)
    with pytest.raises(
        DataDamagedError, match=r"x_train is not as large as its shape \(10000000000, 10000\)"
    ):
        array_files.read(path, CLASSES, test=True)


def test_file_larger_than_free_memory_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(array_files.psutil, "virtual_memory", lambda: SimpleNamespace(available=500))
    with pytest.raises(
        DataDamagedError, match=r"tiny\.npz take 0\.0 GiB, and 0\.0 GiB of memory are free: save"
    ):
        array_files.read(write(tmp_path / "tiny.npz"), CLASSES, test=True)


def test_test_targets_are_checked_before_the_test_set_is_opened(tmp_path):
    path = write(tmp_path / "tiny.npz", y_test=np.full(6, 3))
    with pytest.raises(DataDamagedError, match="y_test has labels from 3 to 3, not 0 to 2"):
        array_files.read(path, None, test=False)


def write_folder(folder: Path, **changes: object) -> Path:
    for name, array in content(**changes).items():
        path = folder / f"{name}.npy"
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, array)
    return folder


FORMS = ("folder", "stored", "compressed")


def write_form(form: str, folder: Path, **changes: object) -> Path:
    if form == "folder":
        return write_folder(folder / "arrays", **changes)
    save = np.savez if form == "stored" else np.savez_compressed
    save(folder / "arrays.npz", **content(**changes))
    return folder / "arrays.npz"


@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize("form", FORMS)
def test_forms_of_files_are_equal(tmp_path, monkeypatch, form, large):
    if large:
        monkeypatch.setattr(inputs, "LARGE_BYTES", 1)
        monkeypatch.setattr(inputs, "BLOCK_BYTES", 64)
    fortran = np.asfortranarray(np.arange(120, dtype=np.float32).reshape(20, 6))
    path = write_form(form, tmp_path, x_train=fortran, x_test=fortran[:6])
    read = array_files.read(path, None, test=True, folder=tmp_path / "cache")
    np.testing.assert_array_equal(read.x_train, fortran)
    np.testing.assert_array_equal(read.x_test, fortran[:6])
    assert read.y_train.tolist() == (np.arange(20) % 3).tolist()
    assert read.x_train.flags.writeable is not large
    assert not list((tmp_path / "cache").glob("*"))


@pytest.mark.parametrize("form", FORMS)
def test_several_inputs_groups_and_classes_are_read(tmp_path, form):
    changes = {
        "x_train": None,
        "x_test": None,
        "x_train/image": np.zeros((20, 4, 4), np.uint8),
        "x_train/age": np.zeros((20, 1)),
        "x_test/image": np.zeros((6, 4, 4), np.uint8),
        "x_test/age": np.zeros((6, 1)),
        "group_train": np.repeat(np.array(["b", "a"]), 10),
        "group_test": np.repeat(np.array(["c", "d"]), 3),
        "classes": np.array(["x", "y", "z"]),
    }
    read = array_files.read(write_form(form, tmp_path, **changes), None, test=True)
    assert inputs.shape_of(read.x_test) == {"age": (1,), "image": (4, 4, 1)}
    assert read.groups.tolist() == [1] * 10 + [0] * 10
    assert read.classes == ("x", "y", "z")


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"y_train": None}, "no array y_train"),
        ({"y_test": None}, "it has x_test, which would not be used"),
        ({"x_test": np.zeros((5, 4, 5), np.uint8)}, "x_test has 5 rows but y_test 6"),
        ({"x_test": np.zeros((6, 5, 5), np.uint8)}, r"x_test has rows of \(5, 5, 1\), x_train of \(4, 5, 1\)"),
        ({"x_train/a": np.zeros(20)}, "it has x_train next to x_train/"),
        ({"group_train": np.zeros(19)}, r"group_train is float64 of \(19,\), not one group for each of 20 rows"),
        ({"group_train": np.full(20, np.nan)}, "group_train is nan in row 0"),
        ({"group_test": np.zeros(6)}, "it has group_test and no group_train: add it, or leave the groups out"),
        ({"group_train": np.arange(20), "group_val": np.zeros(6)}, "it has group_train, group_val and no y_val"),
        (
            {"group_train": np.array([*"aabb"] * 5), "group_test": np.array([*"ccbccc"])},
            "group_train and group_test share the group 'b': give all rows of a group the same split",
        ),
        ({"y_train": np.array([None] * 20)}, "y_train has Python objects"),
        ({"x_train": np.full((20, 2), np.nan)}, "x_train is nan in row 0"),
    ],
)  # fmt: skip
def test_invalid_arrays_are_refused_in_every_form(tmp_path, form, changes, message):
    path = write_form(form, tmp_path, **changes)
    assert array_files.is_array_data(path)
    with pytest.raises(DataDamagedError, match=message) as caught:
        array_files.read(path, None, test=False)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("name", ["x_train", "y_train"])
def test_half_written_array_of_a_folder_is_refused(tmp_path, name):
    file = write_folder(tmp_path) / f"{name}.npy"
    file.write_bytes(file.read_bytes()[:-7])
    with pytest.raises(DataDamagedError, match="cannot be used: it cannot be read"):
        array_files.read(tmp_path, None, test=False)


def test_data_without_a_test_set_are_read(tmp_path):
    read = array_files.read(write_folder(tmp_path, x_test=None, y_test=None), None, test=False)
    assert not read.has_test


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"y_test": np.full(6, 3)}, "y_test has labels from 3 to 3"),
        ({"x_test": np.full((6, 4, 5), np.nan, np.float32)}, "x_test is nan in row 0"),
        ({"x_test": np.zeros((6, 4, 5))}, r"x_test has rows of \(4, 5\), x_train of \(4, 5, 1\)"),
        ({"x_test": np.zeros((6, 4, 5, 1), np.uint16)}, "x_test is uint16, x_train uint8"),
        ({"x_test": np.zeros((5, 4, 5), np.uint8)}, "x_test has 5 rows but y_test 6"),
        ({"x_test": {"a": np.zeros((6, 2))}}, "x_test has the inputs a, x_train an array"),
        ({"x_test": np.full((6, 4, 5), "?")}, "x_test is <U1, x_train uint8|x_test has rows of"),
    ],
)
def test_test_set_of_a_function_is_checked_before_any_trial(changes, message):
    data = content()
    test = data["x_test"], data["y_test"]
    pairs = (data["x_train"], data["y_train"]), test
    assert arrays.call(lambda: pairs, None, test=False).y_test is None
    changed = pairs[0], (changes.get("x_test", test[0]), changes.get("y_test", test[1]))
    with pytest.raises(DataDamagedError, match=message):
        arrays.call(lambda: changed, None, test=True)
    if "y_test" in changes:
        with pytest.raises(DataDamagedError, match=message):
            arrays.call(lambda: changed, None, test=False)
    else:
        # Trials do not need them: they may be corrected before the final run.
        noted = arrays.call(lambda: changed, None, test=False)
        assert noted.has_test
        assert re.match(message, noted.test_problem)
