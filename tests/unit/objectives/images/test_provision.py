"""Images of a folder or table as data: their pixels, splits and targets, and a digest of their content."""

from __future__ import annotations

import gc
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hpo.errors import DataDamagedError, HpoError, UsageError
from objectives.base import DataOptions
from objectives.data import statistics
from objectives.data.splits import split
from objectives.data.statistics import channel_counts, channel_statistics
from objectives.data_loading import load_data
from objectives.images import entry
from objectives.images.cache import Cache
from objectives.images.listing import Picture
from objectives.images.plan import Plan
from objectives.images.provision import mapped, provided
from tests.unit.objectives.images.provision import Spy, load, provide


def test_folder_becomes_three_splits_of_one_mapped_file(photos, tmp_path):
    found = provide(photos, tmp_path / "cache")
    assert found.about.counts == {"train": 21, "valid": 3, "test": 6}
    assert found.about.made == ("valid", "test")
    data, final = (load(found, tmp_path / "cache", final) for final in (False, True))
    assert data.classes == ("cross", "disc", "stripes")
    assert data.image_shape == found.about.geometry.shape
    assert np.bincount(data.y_train).tolist() == [7, 7, 7]
    assert np.bincount(final.y_train).tolist() == [8, 8, 8]
    assert np.bincount(final.y_test).tolist() == [2, 2, 2]
    assert data.x_test is None
    for one in (data, final):
        assert (one.mean, one.std) == channel_statistics(channel_counts(one.x_train))
    pixels = data.x_train.base
    while isinstance(pixels.base, np.ndarray):
        pixels = pixels.base
    # No copy: a slice of a read-only mapping.
    assert isinstance(pixels, np.memmap)
    assert not data.x_train.flags.writeable
    for images in (data.x_valid, final.x_train, final.x_test):
        assert images.base is not None
        assert not images.flags.owndata


def test_pixels_are_those_of_the_listed_files(photos, tmp_path):
    found = provide(photos, tmp_path / "cache", image_size=16)
    folder = Cache(tmp_path / "cache").entry(found.digest)
    data = load(found, tmp_path / "cache", final=True)
    for index, (path, label) in enumerate(
        zip(entry.paths(folder), [*data.y_train, *data.y_test], strict=True)
    ):
        assert Path(path).parent.name == data.classes[label]
        every = np.concatenate([data.x_train, data.x_test])
        mean = np.asarray(Image.open(photos / path).convert("RGB")).mean(axis=(0, 1))
        assert np.abs(every[index].mean(axis=(0, 1)) - mean).max() < 30


@pytest.mark.usefixtures("settled")
def test_second_run_reads_and_decodes_nothing(photos, tmp_path):
    first, spy = provide(photos, tmp_path / "cache"), Spy()
    assert provide(photos, tmp_path / "cache", spy).digest == first.digest
    assert spy.done == {"examining": 0}


def test_file_changed_moments_ago_is_read_again(photos, tmp_path):
    provide(photos, tmp_path / "cache")
    spy = Spy()
    provide(photos, tmp_path / "cache", spy)
    assert spy.done == {"examining": 30}


def swap_labels(photos: Path) -> None:
    (photos / "disc" / "000.jpg").rename(photos / "swap")
    (photos / "cross" / "000.jpg").rename(photos / "disc" / "000.jpg")
    (photos / "swap").rename(photos / "cross" / "000.jpg")


@pytest.mark.usefixtures("settled")
@pytest.mark.parametrize(
    "change",
    [
        swap_labels,
        lambda photos: (photos / "disc" / "000.jpg").unlink(),
        lambda photos: shutil.copy(photos / "disc" / "000.jpg", photos / "disc" / "new.jpg"),
        lambda photos: (photos / "disc" / "000.jpg").rename(photos / "disc" / "999.jpg"),
        lambda photos: shutil.copy(photos / "cross" / "001.png", photos / "disc" / "001.png"),
    ],
)
def test_changed_data_have_another_digest(photos, tmp_path, change):
    first = provide(photos, tmp_path / "cache")
    change(photos)
    assert provide(photos, tmp_path / "cache").digest != first.digest


@pytest.mark.usefixtures("settled")
def test_change_that_keeps_size_and_time_is_noticed(photos, tmp_path):
    size = (photos / "disc" / "003.bmp").stat().st_size
    first = provide(photos, tmp_path / "cache")
    path = photos / "disc" / "003.bmp"
    before, content = path.stat(), bytearray(path.read_bytes())
    content[-1] ^= 0xFF
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == size
    assert provide(photos, tmp_path / "cache").digest != first.digest


def test_copy_at_another_place_has_the_same_digest(photos, tmp_path):
    first = provide(photos, tmp_path / "cache")
    photos.rename(tmp_path / "moved")
    spy = Spy()
    again = provide(tmp_path / "moved", tmp_path / "cache", spy)
    assert again.digest == first.digest
    assert "decoding" not in spy.done
    assert again.about.source == str(tmp_path / "moved")


@pytest.mark.parametrize(
    "options", [{"image_size": 8}, {"image_fit": "pad"}, {"test_fraction": 0.4}, {"split_seed": 1}]
)
def test_other_rules_have_another_digest(photos, tmp_path, options):
    first = provide(photos, tmp_path / "cache")
    assert provide(photos, tmp_path / "cache", **options).digest != first.digest


def test_size_is_chosen_by_the_images(photos, tmp_path):
    assert provide(photos, tmp_path / "cache").about.geometry.shape == (28, 28, 3)
    for path in photos.glob("*/*.*"):
        if path.suffix == ".webp":
            # The format has no grey.
            path.unlink()
            continue
        with Image.open(path) as image:
            image.convert("L").resize((20, 12)).save(path)
    assert provide(photos, tmp_path / "cache").about.geometry.shape == (12, 20, 1)
    assert provide(photos, tmp_path / "cache", image_size=10).about.geometry.shape == (10, 10, 1)


def test_statistics_are_computed_once_for_all_processes(photos, tmp_path, monkeypatch):
    found = provide(photos, tmp_path / "cache")
    monkeypatch.setattr(statistics, "channel_counts", None)
    assert load(found, tmp_path / "cache").mean != load(found, tmp_path / "cache", final=True).mean


def test_limit_takes_a_stratified_part(photos, tmp_path):
    found = provide(photos, tmp_path / "cache")
    options = DataOptions(source="gone", digest=found.digest, cache_dir=str(tmp_path / "cache"), limit=9)
    data = split(mapped(options, final=False)[0], options, final=False)
    assert np.bincount(data.y_train).tolist() == [3, 3, 3]
    assert (data.mean, data.std) == channel_statistics(channel_counts(data.x_train))


def test_names_of_files_are_not_kept_while_a_study_runs(photos, tmp_path):
    with provided(DataOptions(source=str(photos)), Cache(tmp_path / "cache")):
        gc.collect()
        assert [one for one in gc.get_objects() if isinstance(one, Plan | Picture)] == []


@pytest.mark.parametrize(
    ("task", "labels", "dtype", "width"),
    [
        ("regression", "0.25 1.5 3", np.float32, 1),
        ("labels", "a a|b c", np.uint8, 3),
        ("binary", "no yes no", np.int64, None),
    ],
)
def test_table_of_each_task_is_cached_and_mapped(photos, tmp_path, task, labels, dtype, width):
    paths = sorted(photos.glob("*/*.*"))
    rows = [f"{path.relative_to(photos)},{labels.split()[n % 3]},{n // 2}" for n, path in enumerate(paths)]
    (photos / "t.csv").write_text("\n".join(["path,label,group", *rows]))
    options = DataOptions(source=str(photos / "t.csv"), task=task, cache_dir=str(tmp_path / "cache"))
    trial, final = (load_data(None, None, options, final=final, task=task) for final in (False, True))
    assert (trial.task, trial.y_train.dtype) == (task, dtype)
    assert trial.output_size == (width or 1)
    assert len(trial.x_train) + len(trial.x_valid) == len(final.x_train) == 30 - len(final.x_test)
    other = "classes" if task == "labels" else "labels"
    with pytest.raises(DataDamagedError, match=f"was read for task {task}, .*: add --task {other}"):
        load_data(None, None, options, final=False, task=other)


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ("labels", "needs a table of images, .*: give a table path,label with --data, and --task labels"),
        ("regression", "needs a table of images, .*, and --task regression"),
        ("binary", r"has 3 classes \(cross, disc, stripes\), and task binary needs two: set --task classes"),
    ],
)
def test_folder_that_cannot_serve_the_task_of_an_objective_is_refused_once(photos, tmp_path, task, message):
    options = DataOptions(source=str(photos), cache_dir=str(tmp_path / "cache"))
    for given in (None, task):
        with pytest.raises(HpoError, match=message):
            load_data(None, None, replace(options, task=given), final=False, task=task)


def test_two_class_folders_serve_a_binary_objective(photos, tmp_path):
    shutil.rmtree(photos / "disc")
    options = DataOptions(source=str(photos), cache_dir=str(tmp_path / "cache"))
    data = load_data(None, None, options, final=False, task="binary")
    assert (data.task, data.classes, data.output_size) == ("binary", ("cross", "stripes"), 1)


@pytest.mark.parametrize(
    ("declared", "found"),
    [
        (None, ("cross", "disc", "stripes")),
        (("stripes", "disc", "cross"), ("cross", "disc", "stripes")),
        (("Kreuz", "Scheibe", "Streifen"), ("Kreuz", "Scheibe", "Streifen")),
    ],
)
def test_declared_names_of_classes_never_name_other_folders(photos, tmp_path, declared, found):
    options = DataOptions(source=str(photos), cache_dir=str(tmp_path / "cache"))
    assert load_data(None, declared, options, final=False).classes == found


def test_folds_of_images_keep_groups_whole_and_leave_the_test_images_out(made, tmp_path):
    table = tmp_path / "images.csv"
    files = sorted(made.rglob("*.*"))
    rows = [f"{path},{path.parent.name},{index // 2}" for index, path in enumerate(files)]
    table.write_text("\n".join(["path,label,group", *rows]))
    options = DataOptions(source=str(table), cache_dir=str(tmp_path / "cache"), folds=3)
    loaded, classes = mapped(options, final=False)
    tested = mapped(options, final=True)[0].x_test
    assert len(loaded.y_train) + len(tested) == len(files)
    assert np.unique(loaded.groups, return_counts=True)[1].tolist() == [2] * (len(loaded.y_train) // 2)
    data = split(loaded, options, final=False, classes=classes)
    assert np.shares_memory(data.x_train, loaded.x_train)
    for train, held_out in data.folds:
        assert not set(loaded.groups[train].tolist()) & set(loaded.groups[held_out].tolist())


def test_folds_of_images_with_own_validation_images_are_refused(made, tmp_path):
    for split_name in ("train", "val"):
        shutil.copytree(made, tmp_path / "photos" / split_name)
    options = DataOptions(source=str(tmp_path / "photos"), cache_dir=str(tmp_path / "cache"), folds=3)
    with pytest.raises(UsageError, match="leave --folds out"):
        split(mapped(options, final=False)[0], options, final=False)
