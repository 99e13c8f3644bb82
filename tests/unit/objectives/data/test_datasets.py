"""Data sets by name: from a file, bundled, downloaded, or missing."""

from __future__ import annotations

import inspect
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from hpo.errors import DataDamagedError, DataMissingError, UsageError
from objectives.data import datasets
from objectives.data.arrays import NAMES, Arrays
from objectives.data.shipped import SHIPPED
from objectives.data.verification import verify


def write(folder, name="mnist", **changes):
    rng = np.random.default_rng(0)
    valid = {
        "x_train": rng.integers(0, 256, (30, 4, 4), dtype=np.uint8),
        "y_train": (np.arange(30) % 10).reshape(30, 1),
        "x_test": rng.integers(0, 256, (10, 4, 4), dtype=np.uint8),
        "y_test": np.arange(10),
    }
    np.savez(folder / f"{name}.npz", **(valid | changes))


@pytest.fixture
def offline(monkeypatch):
    """Make every download fail, as Keras' does without a network."""

    def fail(dataset):
        raise DataMissingError(f"{dataset.name} cannot be downloaded")

    monkeypatch.setattr(datasets, "_downloaded", fail)


def test_digits_are_bundled():
    digits = datasets.load("digits", None)
    assert (digits.x_train.shape, digits.x_test.shape) == ((1438, 8, 8, 1), (359, 8, 8, 1))
    assert (digits.x_train.dtype, digits.x_train.min(), digits.x_train.max()) == (np.uint8, 0, 255)
    assert min(np.bincount(digits.y_test)) >= 34
    np.testing.assert_array_equal(digits.x_test, datasets.load("digits", None).x_test)


def test_file_takes_precedence_over_bundled_data(tmp_path):
    write(tmp_path, "digits")
    assert datasets.load("digits", tmp_path).x_train.shape == (30, 4, 4, 1)


def test_file_of_any_name_is_a_data_set(tmp_path):
    write(tmp_path, "pets", y_train=np.arange(30))
    loaded = datasets.load("pets", tmp_path, test=False)
    assert loaded.y_train.max() == 29
    assert loaded.x_test is None
    assert datasets.class_names("pets") is None
    assert len(datasets.class_names("cifar10")) == 10


def test_labels_beyond_the_classes_are_refused(tmp_path):
    write(tmp_path, y_train=np.arange(30))
    with pytest.raises(DataDamagedError, match=r"mnist\.npz.*labels from 0 to 29, not 0 to 9"):
        datasets.load("mnist", tmp_path)


@pytest.mark.parametrize("data_dir", [None, "/nowhere"])
def test_unknown_name_without_file_is_refused(data_dir):
    shipped = ", ".join(SHIPPED)
    with pytest.raises(
        DataMissingError, match=rf"unknown data set 'pets' \(shipped are {shipped}\).*HPO_DATA_DIR"
    ):
        datasets.load("pets", data_dir)


@pytest.mark.usefixtures("offline")
def test_missing_file_without_network_is_reported(tmp_path):
    with pytest.raises(DataMissingError, match="cannot be downloaded"):
        datasets.load("mnist", tmp_path)


def test_missing_network_is_reported_before_keras_is_imported(monkeypatch, tmp_path):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:1")
    monkeypatch.setitem(sys.modules, "keras", None)
    with pytest.raises(DataMissingError, match=r"mnist is not on this machine.*refused.*HPO_DATA_DIR"):
        datasets.load("mnist", tmp_path)


def test_data_in_the_cache_of_keras_need_no_network(monkeypatch, tmp_path):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:1")
    (tmp_path / "datasets").mkdir()
    (tmp_path / "datasets" / "mnist.npz").touch()
    split = np.zeros((10, 4, 4), np.uint8), np.arange(10)
    module = SimpleNamespace(load_data=lambda: (split, split))
    monkeypatch.setitem(sys.modules, "keras", SimpleNamespace(datasets=SimpleNamespace(mnist=module)))
    assert datasets.load("mnist", tmp_path).x_train.shape == (10, 4, 4, 1)


@pytest.mark.parametrize("name", [name for name, dataset in SHIPPED.items() if dataset.download])
def test_origin_of_a_data_set_is_that_of_keras(name):
    import keras

    dataset = SHIPPED[name]
    source = inspect.getsource(getattr(keras.datasets, dataset.download).load_data)
    folder, _, file = dataset.origin.rpartition("/")
    assert folder in source
    assert file in source
    assert dataset.cached in source


def test_fetch_writes_a_file_that_loads(monkeypatch, tmp_path):
    write(tmp_path)
    downloaded = datasets.load("mnist", tmp_path)
    monkeypatch.setattr(datasets, "_downloaded", lambda _: downloaded)
    folder = tmp_path / "new" / "folder"
    path = datasets.fetch("mnist", folder)
    assert path == folder / "mnist.npz"
    assert [entry.name for entry in folder.iterdir()] == ["mnist.npz"]
    fetched = datasets.load("mnist", folder)
    for name in NAMES:
        np.testing.assert_array_equal(getattr(fetched, name), getattr(downloaded, name))


@pytest.mark.usefixtures("offline")
def test_fetch_keeps_a_valid_file(tmp_path):
    write(tmp_path)
    before = (tmp_path / "mnist.npz").stat().st_mtime_ns
    datasets.fetch("mnist", tmp_path)
    assert (tmp_path / "mnist.npz").stat().st_mtime_ns == before


def test_fetch_skips_bundled_and_refuses_unknown_data(tmp_path):
    assert datasets.fetch("digits", tmp_path) is None
    with pytest.raises(UsageError, match=f"shipped are {', '.join(SHIPPED)}"):
        datasets.fetch("pets", tmp_path)


def test_interrupted_fetch_leaves_no_file(monkeypatch, tmp_path):
    zeros = np.zeros((3, 2, 2, 1), np.uint8)
    monkeypatch.setattr(datasets, "_downloaded", lambda _: Arrays(zeros, zeros, zeros, zeros))
    monkeypatch.setattr(np, "savez_compressed", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        datasets.fetch("mnist", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_verify_reports_the_content_of_a_file(tmp_path):
    write(tmp_path)
    report = verify("mnist", tmp_path)
    assert report.problems == ()
    assert report.arrays["x_train"] == "uint8 (30, 4, 4, 1)"
    assert report.class_counts == {"train": (3,) * 10, "test": (1,) * 10}
    assert len(report.sha256) == 64


def test_verify_reports_problems_instead_of_raising(tmp_path):
    write(tmp_path, y_test=np.zeros(10, int))
    assert verify("mnist", tmp_path).problems[0] == "there is no test example of class 1"
    (tmp_path / "mnist.npz").write_bytes(b"nothing")
    (problem,) = verify("mnist", tmp_path).problems
    assert "cannot be read" in problem


@pytest.mark.parametrize("name", ["mnist.npz", "own"])
def test_verify_reads_a_path(tmp_path, name, monkeypatch):
    write(tmp_path)
    (tmp_path / "own").mkdir()
    for split in ("train", "test"):
        for kind in "xy":
            array = np.load(tmp_path / "mnist.npz")[f"{kind}_{split}"]
            np.save(tmp_path / "own" / f"{kind}_{split}.npy", array)
    monkeypatch.chdir(tmp_path)
    for given in (name, str(tmp_path / name)):
        report = verify(given, tmp_path / "elsewhere")
        assert report.class_counts == {"train": (3,) * 10, "test": (1,) * 10}
        assert str(report.path) == given


def test_verify_reports_bundled_and_refuses_unknown_data():
    report = verify("digits", None)
    assert (report.path, report.sha256, report.problems) == (None, None, ())
    with pytest.raises(UsageError, match="unknown data set 'pets'"):
        verify("pets", None)


@pytest.mark.parametrize(
    ("task", "y", "counts"),
    [
        ("regression", np.array([0.5, 1.5, 2.0]), {}),
        ("labels", np.array([[0, 1], [1, 1], [0, 1]]), {"train": (1, 3)}),
        ("binary", np.array([-1, 1, 1]), {"train": (1, 2)}),
    ],
)
def test_verify_checks_targets_for_their_task(tmp_path, task, y, counts):
    np.savez(tmp_path / "houses.npz", x_train=np.zeros((3, 2)), y_train=y)
    assert verify("houses", tmp_path).problems
    report = verify("houses", tmp_path, task)
    assert (report.problems, report.class_counts) == ((), counts)


def test_folder_of_a_name_is_a_data_set(tmp_path):
    (tmp_path / "pets" / "x_train").mkdir(parents=True)
    np.save(tmp_path / "pets" / "x_train" / "age.npy", np.zeros((4, 1)))
    np.save(tmp_path / "pets" / "y_train.npy", np.array(["b", "a", "b", "a"]))
    assert datasets.location("pets", tmp_path) == str(tmp_path / "pets")
    report = verify("pets", tmp_path)
    assert report.problems == ()
    assert report.arrays == {"x_train/age": "float32 (4, 1)", "y_train": "int64 (4,)"}
    assert report.class_counts == {"train": (2, 2)}
    assert not datasets.load("pets", tmp_path, test=False).has_test
