"""Images of a folder in the cache: decoded once, shared, named by their content, and complete or absent."""

from __future__ import annotations

import gc
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hpo.errors import DataDamagedError, DiskFullError, FileNotWritableError, HpoError, UsageError
from objectives.base import DataOptions
from objectives.data import stamps, statistics
from objectives.data.splits import split
from objectives.data.statistics import channel_counts, channel_statistics
from objectives.data_loading import load_data
from objectives.images import build, entry
from objectives.images.cache import Cache
from objectives.images.listing import Picture
from objectives.images.plan import Plan
from objectives.images.provision import Provided, mapped, provided
from tests.photos import make_photos


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    return make_photos(tmp_path_factory.mktemp("made") / "photos", 10)


@pytest.fixture
def photos(made, tmp_path) -> Path:
    """Return a copy of the photos that a test may change, old enough to be remembered."""
    folder = tmp_path / "photos"
    shutil.copytree(made, folder)
    return folder


@pytest.fixture
def settled(monkeypatch) -> None:
    """Let files be remembered although they were written moments ago."""
    monkeypatch.setattr(stamps, "SETTLED_SECONDS", -60.0)


class Spy:
    """Counts the files of each stage, and calls a hook at the first."""

    def __init__(self, hook: Callable[[], None] = lambda: None) -> None:
        self.done: dict[str, int] = {}
        self._hook = hook

    def __call__(self, stage: str, done: int, total: int) -> None:  # noqa: ARG002
        if stage == "decoding" and done == 0:
            self._hook()
        self.done[stage] = done


def provide(
    source: Path, folder: Path, watch: Spy | None = None, most: int = 1 << 30, **options: object
) -> Provided:
    with provided(DataOptions(source=str(source), **options), Cache(folder, most), watch or Spy()) as found:
        return found


def load(found: Provided, folder: Path, final: bool = False):
    options = DataOptions(source="gone", digest=found.digest, cache_dir=str(folder))
    arrays, classes = mapped(options, final)
    return split(arrays, options, final, classes)


def refused(error: type[HpoError], *args: object, **options: object) -> str:
    with pytest.raises(error) as caught:
        provide(*args, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if not path.name.endswith((".lock", ".json")))


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


def break_files(photos: Path) -> None:
    (photos / "disc" / "000.jpg").write_bytes(b"")
    (photos / "disc" / "001.png").write_bytes((photos / "disc" / "001.png").read_bytes()[:-1500])
    (photos / "cross" / "002.webp").write_bytes(b"no image at all")


@pytest.mark.parametrize("remembered", [True, False])
def test_unreadable_files_are_refused_or_left_out(photos, tmp_path, monkeypatch, remembered):
    if remembered:
        monkeypatch.setattr(stamps, "SETTLED_SECONDS", -60.0)
    break_files(photos)
    for _ in range(2):
        message = refused(DataDamagedError, photos, tmp_path / "cache")
        assert "cannot be read: cross/002.webp (it is no image), disc/000.jpg (it is empty)" in message
        assert "--skip-unreadable" in message
        assert left(tmp_path / "cache") == []
    found = provide(photos, tmp_path / "cache", skip_unreadable=True)
    assert sorted(found.unreadable) == ["cross/002.webp", "disc/000.jpg", "disc/001.png"]
    assert found.about.images == 27
    assert load(found, tmp_path / "cache").class_count == 3


def test_truncated_file_alone_is_refused_by_name(photos, tmp_path):
    (photos / "disc" / "001.png").write_bytes((photos / "disc" / "001.png").read_bytes()[:-1500])
    message = refused(DataDamagedError, photos, tmp_path / "cache")
    assert message.startswith("1 image of ")
    assert "disc/001.png" in message


def test_class_without_readable_images_is_refused(photos, tmp_path):
    for path in (photos / "disc").iterdir():
        path.write_bytes(b"")
    shutil.rmtree(photos / "cross")
    assert "single class stripes" in refused(
        DataDamagedError, photos, tmp_path / "cache", skip_unreadable=True
    )


def test_class_that_loses_all_its_images_is_refused(photos, tmp_path):
    for path in (photos / "disc").iterdir():
        path.write_bytes(b"")
    assert "no image of disc that can be read" in refused(
        DataDamagedError, photos, tmp_path / "cache", skip_unreadable=True
    )


@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_file_without_an_end_is_unreadable(photos, tmp_path, kind):
    place = photos / "disc" / "000.png"
    if kind == "pipe":
        os.mkfifo(place)
    else:
        place.symlink_to("/dev/zero")
    message = refused(DataDamagedError, photos, tmp_path / "cache")
    assert "disc/000.png (it is no regular file)" in message


def test_path_that_no_file_can_have_is_unreadable(photos, tmp_path):
    rows = [f"{path.relative_to(photos)},{path.parent.name}" for path in sorted(photos.glob("*/*.*"))]
    (photos / "images.csv").write_text("\n".join(["path,label", *rows, "a\0b.jpg,disc"]))
    assert r"a\x00b.jpg (embedded null byte)" in refused(
        DataDamagedError, photos / "images.csv", tmp_path / "cache"
    )


def test_file_of_a_table_that_is_absent_is_unreadable(photos, tmp_path):
    rows = [f"{path.relative_to(photos)},{path.parent.name}" for path in sorted(photos.glob("*/*.*"))]
    (photos / "images.csv").write_text("\n".join(["path,label", *rows, "gone.jpg,disc"]))
    message = refused(DataDamagedError, photos / "images.csv", tmp_path / "cache")
    assert "gone.jpg (No such file or directory)" in message
    found = provide(photos / "images.csv", tmp_path / "cache", skip_unreadable=True)
    assert found.about.images == 30


def test_file_changed_while_it_is_read_is_refused(photos, tmp_path):
    spy = Spy(lambda: (photos / "disc" / "000.jpg").write_bytes(b"new"))
    assert "was changed while images were read" in refused(DataDamagedError, photos, tmp_path / "cache", spy)
    assert left(tmp_path / "cache") == []


def test_interrupted_build_leaves_nothing(photos, tmp_path):
    def interrupt() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        provide(photos, tmp_path / "cache", Spy(interrupt))
    assert left(tmp_path / "cache") == []
    assert provide(photos, tmp_path / "cache").about.images == 30


KILLED = """
import os, sys
from objectives.base import DataOptions
from objectives.images.cache import Cache
from objectives.images.provision import provided
from pathlib import Path
def watch(stage, done, total):
    if stage == "decoding" and done:
        os.kill(os.getpid(), 9)
with provided(DataOptions(source=sys.argv[1]), Cache(Path(sys.argv[2])), watch):
    pass
"""


def test_killed_build_is_begun_again(photos, tmp_path):
    subprocess.run([sys.executable, "-c", KILLED, photos, tmp_path / "cache"], check=False)
    assert [name for name in left(tmp_path / "cache") if name.endswith(".partial")]
    Cache(tmp_path / "cache").clear_leftovers()
    assert [path.suffix for path in (tmp_path / "cache").iterdir()] == [".lock"] * 2
    found = provide(photos, tmp_path / "cache")
    assert left(tmp_path / "cache") == [found.digest]


WAITING = """
import sys
from objectives.base import DataOptions
from objectives.images.cache import Cache
from objectives.images.provision import provided
from pathlib import Path
stages = []
def watch(stage, done, total):
    if stage not in stages:
        stages.append(stage)
        print(stage, flush=True)
with provided(DataOptions(source=sys.argv[1]), Cache(Path(sys.argv[2])), watch) as found:
    print(found.digest, flush=True)
"""


def test_second_process_waits_for_the_first_and_decodes_nothing(photos, tmp_path):
    other: list[subprocess.Popen] = []

    def start() -> None:
        command = [sys.executable, "-c", WAITING, photos, tmp_path / "cache"]
        other.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        # Until it waits for the lock that this process holds.
        for line in other[0].stdout:
            if line.startswith("waiting"):
                return

    found = provide(photos, tmp_path / "cache", Spy(start))
    assert other[0].communicate()[0].splitlines() == [found.digest]


def test_least_recently_used_is_evicted_but_not_one_in_use(photos, tmp_path):
    folder = tmp_path / "cache"
    first, second = provide(photos, folder, image_size=8), provide(photos, folder, image_size=9)
    for digest, used_at in ((first.digest, 200), (second.digest, 100)):
        os.utime(folder / f"{digest}.lock", (used_at, used_at))
    total = sum(one.bytes for one in Cache(folder).list())
    with provided(DataOptions(source=str(photos), image_size=9), Cache(folder)):
        os.utime(folder / f"{second.digest}.lock", (100, 100))
        third = provide(photos, folder, most=total, image_size=7)
        assert left(folder) == sorted([second.digest, third.digest])
        message = refused(DiskFullError, photos, folder, most=total, image_size=11)
        assert "HPO_CACHE_SIZE" in message
        assert [one.in_use for one in Cache(folder).list() if one.digest == second.digest] == [True]
        assert not Cache(folder).remove(second.digest)
    assert Cache(folder).remove(second.digest)


def test_data_larger_than_the_cache_are_refused(photos, tmp_path):
    message = refused(DiskFullError, photos, tmp_path / "cache", most=1000)
    assert "more than the limit of the cache" in message
    assert left(tmp_path / "cache") == []


@pytest.mark.parametrize("noticed", ["ahead", "while writing"])
def test_full_disk_is_one_line_and_leaves_nothing(photos, tmp_path, monkeypatch, noticed):
    if noticed == "ahead":
        monkeypatch.setattr(shutil, "disk_usage", lambda _: type("Usage", (), {"free": 1000}))
    else:

        def full(*_: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(build.os, "posix_fallocate", full)
    message = refused(DiskFullError, photos, tmp_path / "cache")
    assert "free some space, give a smaller --image-size" in message
    assert left(tmp_path / "cache") == []


def test_no_data_set_is_removed_in_vain(photos, tmp_path, monkeypatch):
    found = provide(photos, tmp_path / "cache")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: type("Usage", (), {"free": 1000}))
    assert "free some space" in refused(DiskFullError, photos, tmp_path / "cache", image_size=200)
    assert left(tmp_path / "cache") == [found.digest]


def test_cache_that_cannot_be_written_is_one_line(photos, tmp_path):
    (tmp_path / "cache").write_text("a file")
    assert "set HPO_HOME to another" in refused(FileNotWritableError, photos, tmp_path / "cache")


@pytest.mark.parametrize("name", [entry.PIXELS, entry.LABELS, entry.ABOUT])
def test_damaged_entry_is_one_line(photos, tmp_path, name):
    found = provide(photos, tmp_path / "cache")
    file = tmp_path / "cache" / found.digest / name
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(DataDamagedError, match=f"--clear {found.digest}"):
        load(found, tmp_path / "cache")


def test_options_without_a_cache_are_refused(photos):
    with pytest.raises(UsageError, match="needs a cache_dir"):
        mapped(DataOptions(source=str(photos)), final=False)


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
    other = "labels" if task == "regression" else "regression"
    with pytest.raises(DataDamagedError, match=f"was read for task {task}, .*: add --task {other}"):
        load_data(None, None, options, final=False, task=other)


def test_two_class_folders_serve_a_binary_objective(photos, tmp_path):
    shutil.rmtree(photos / "disc")
    options = DataOptions(source=str(photos), cache_dir=str(tmp_path / "cache"))
    data = load_data(None, None, options, final=False, task="binary")
    assert (data.task, data.classes, data.output_size) == ("binary", ("cross", "stripes"), 1)


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
