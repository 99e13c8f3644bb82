"""Arrays given with --data: their digest follows content and rules, and a test set is made where there is none."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from hpo.errors import DataDamagedError, UsageError
from objectives.base import DataOptions
from objectives.data import array_source, inputs, stamps
from objectives.data.array_source import survey
from objectives.data.description import digest
from objectives.data_loading import load_data


@pytest.fixture(params=["folder", "npz"])
def source(request, tmp_path) -> Path:
    """Return 200 rows that number themselves, of two classes, without a test set."""
    x, y = np.arange(200.0).reshape(-1, 1), np.arange(200) % 2
    if request.param == "npz":
        np.savez(tmp_path / "mine.npz", x_train=x, y_train=y)
        return tmp_path / "mine.npz"
    (tmp_path / "mine").mkdir()
    np.save(tmp_path / "mine" / "x_train.npy", x)
    np.save(tmp_path / "mine" / "y_train.npy", y)
    return tmp_path / "mine"


def change(source: Path) -> None:
    """Change one target."""
    if source.is_dir():
        np.save(source / "y_train.npy", np.r_[1, np.arange(1, 200) % 2])
    else:
        np.savez(source, x_train=np.arange(200.0).reshape(-1, 1), y_train=np.r_[1, np.arange(1, 200) % 2])


def test_test_set_is_made_and_never_trained_on(source, tmp_path):
    options = DataOptions(source=str(source), cache_dir=str(tmp_path / "cache"))
    trial, final = (load_data(None, None, options, final=final) for final in (False, True))
    assert trial.x_test is None
    assert trial.has_test
    assert (len(trial.x_train), len(trial.x_valid), len(final.x_train), len(final.x_test)) == (
        144,
        16,
        160,
        40,
    )
    assert np.bincount(final.y_test).tolist() == [20, 20]
    rows = [set(x.ravel().tolist()) for x in (trial.x_train, trial.x_valid, final.x_test)]
    assert set.union(*rows) == set(range(200))
    assert set(final.x_train.ravel().tolist()) == rows[0] | rows[1]
    other = load_data(None, None, DataOptions(source=str(source), test_fraction=0.1), final=True)
    assert len(other.x_test) == 20


@pytest.mark.parametrize("remembered", [False, True])
def test_digest_follows_content_and_rules(source, tmp_path, monkeypatch, remembered):
    if remembered:
        monkeypatch.setattr(stamps, "SETTLED_SECONDS", -60.0)
    options = DataOptions(source=str(source))
    first = survey(options, tmp_path / "cache")
    assert first.makes_test
    assert first.contents.rows == {"train": 200}
    assert first.contents.inputs == {"": "1, float64"}
    for changes in (
        {"test_fraction": 0.3},
        {"split_seed": 1},
        {"validation_fraction": 0.2},
        {"task": "binary"},
    ):
        assert survey(DataOptions(source=str(source), **changes), tmp_path / "cache").digest != first.digest
    assert survey(DataOptions(source=str(source), limit=5), tmp_path / "cache").digest == first.digest
    monkeypatch.setattr(array_source, "_hashed", (lambda *_: 1 / 0) if remembered else array_source._hashed)
    assert survey(options, tmp_path / "cache").digest == first.digest
    monkeypatch.undo()
    change(source)
    assert survey(options, tmp_path / "cache").digest != first.digest
    assert not list((tmp_path / "cache").glob("*.partial"))


def test_data_changed_after_the_launch_are_refused(source, tmp_path):
    cache = tmp_path / "cache"
    digest = survey(DataOptions(source=str(source)), cache).digest
    options = DataOptions(source=str(source), cache_dir=str(cache), digest=digest)
    load_data(None, None, options, final=False)
    change(source)
    with pytest.raises(DataDamagedError, match="was changed since it was read for this study: restore it"):
        load_data(None, None, options, final=False)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image_size": 8}, "--image-size applies to image files, and .* holds arrays: leave it out"),
        ({"image_fit": "pad"}, "--image-fit applies"),
        ({"skip_unreadable": True}, "--skip-unreadable applies"),
    ],
)
def test_options_of_image_files_are_refused(source, tmp_path, changes, message):
    with pytest.raises(UsageError, match=message):
        survey(DataOptions(source=str(source), **changes), tmp_path)


def test_test_fraction_next_to_a_test_set_is_refused(tmp_path):
    pair = {"x": np.zeros((4, 2)), "y": np.arange(4) % 2}
    np.savez(
        tmp_path / "a.npz", **{f"{k}_{split}": v for split in ("train", "test") for k, v in pair.items()}
    )
    with pytest.raises(UsageError, match="has a test split of its own: leave --test-fraction out"):
        survey(DataOptions(source=str(tmp_path / "a.npz"), test_fraction=0.2), tmp_path)


def test_rows_too_few_for_three_splits_are_refused(tmp_path):
    np.savez(tmp_path / "a.npz", x_train=np.zeros((2, 2)), y_train=np.arange(2))
    with pytest.raises(DataDamagedError, match="no class has 3 rows"):
        load_data(None, None, DataOptions(source=str(tmp_path / "a.npz")), final=False)


@pytest.mark.parametrize(
    ("form", "dtype", "limit"),
    [
        ("folder", np.uint8, None),
        ("folder", np.uint16, 200),
        ("stored", np.float64, 200),
        ("compressed", np.float32, None),
    ],
)
def test_loading_takes_less_than_a_tenth_of_the_data(tmp_path, monkeypatch, form, dtype, limit):
    monkeypatch.setattr(inputs, "LARGE_BYTES", 1 << 16)
    monkeypatch.setattr(inputs, "BLOCK_BYTES", 1 << 16)
    x, y = np.random.default_rng(0).integers(0, 255, (600, 32, 32, 3)).astype(dtype), np.arange(600) % 10
    if form == "folder":
        np.save(tmp_path / "x_train.npy", x)
        np.save(tmp_path / "y_train.npy", y)
    else:
        (np.savez if form == "stored" else np.savez_compressed)(tmp_path / "a.npz", x_train=x, y_train=y)
    source = tmp_path if form == "folder" else tmp_path / "a.npz"
    options = DataOptions(source=str(source), cache_dir=str(tmp_path / "cache"), limit=limit)
    size = x.nbytes
    del x
    tracemalloc.start()
    for final in (False, True):
        digest(load_data(None, None, options, final=final))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # Counts of the values of uint16 take as much for any number of images.
    assert peak - (3 * 65536 * 8 * 2 if dtype is np.uint16 else 0) < size / 10 + 4 * inputs.BLOCK_BYTES
