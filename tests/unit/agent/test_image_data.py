"""A launch reads a study's own images before it starts any process, and logs the facts."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from PIL import Image

from hpo.agent.image_data import images_in_use
from hpo.settings import Settings
from hpo.terminal import work_progress
from hpo.terminal.work_progress import WorkProgress
from objectives.data_options import DataOptions, Fit
from objectives.images.cache import Cache
from tests.photos import make_photos


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings.from_environment({"HPO_HOME": str(tmp_path / "home")})


def test_options_without_images_are_left_as_they_are(settings: Settings) -> None:
    with images_in_use(DataOptions(limit=5), settings) as data:
        assert data == DataOptions(limit=5)
    assert not settings.home.exists()


def test_images_are_in_use_within_the_block_and_described(
    settings: Settings, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    photos = make_photos(tmp_path / "photos", 5, side=(8, 12))
    (photos / "disc" / "000.jpg").write_bytes(b"")
    (photos / "disc" / "notes.txt").touch()
    checks: list[None] = []
    options = DataOptions(source=str(photos), image_size=6, skip_unreadable=True)
    with (
        caplog.at_level(logging.INFO),
        images_in_use(options, settings, lambda: checks.append(None)) as data,
    ):
        assert data.cache_dir == str(settings.cache_dir)
        assert [(one.digest, one.in_use) for one in Cache(settings.cache_dir).list()] == [(data.digest, True)]
    assert [one.in_use for one in Cache(settings.cache_dir).list()] == [False]
    assert checks
    assert caplog.messages == [
        f"{photos}: 14 images of 3 classes (cross, disc, stripes), 6×6, in colour: 8 training, 3 validation, 3 test",
        "there is no test split, so 20 % of the images are held out as one (--test-fraction):"
        " only hpo retrain opens it",
        "1 other file: disc/notes.txt",
        "1 image cannot be read and will be left out: disc/000.jpg",
    ]


@pytest.mark.parametrize(
    ("test", "counts"),
    [(False, "12 in 3 folds, each of which is held out once to validate, 3 test"), (True, "15 in 3 folds")],
)
def test_folds_are_reported_in_place_of_a_validation_split(
    settings: Settings, tmp_path: Path, caplog: pytest.LogCaptureFixture, test: bool, counts: str
) -> None:
    photos = make_photos(tmp_path / "photos" / ("train" if test else ""), 5, side=(8, 12))
    if test:
        make_photos(tmp_path / "photos" / "test", 1, side=(8, 12))
        photos = photos.parent
    options = DataOptions(source=str(photos), folds=3)
    with caplog.at_level(logging.INFO), images_in_use(options, settings):
        pass
    assert f", in colour: {counts}" in caplog.messages[0]


@pytest.mark.parametrize(("fit", "reported"), [("crop", True), ("pad", False), ("stretch", False)])
def test_images_that_lose_much_when_cropped_are_reported(
    settings: Settings, tmp_path: Path, caplog: pytest.LogCaptureFixture, fit: Fit, reported: bool
) -> None:
    photos = tmp_path / "photos"
    for number in range(8):
        path = photos / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (80, 20) if number < 4 else (20, 80)).save(path)
    options = DataOptions(source=str(photos), image_fit=fit)
    with caplog.at_level(logging.INFO), images_in_use(options, settings):
        pass
    line = (
        "images lose 75 % of their area on average when they are cropped to 20×20: set --image-fit pad or stretch to"
        " keep their edges"
    )
    assert (line in caplog.messages) is reported


def test_signal_ends_the_reading(settings: Settings, tmp_path: Path) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    photos = make_photos(tmp_path / "photos", 4, side=(8, 12))
    with (
        pytest.raises(KeyboardInterrupt),
        images_in_use(DataOptions(source=str(photos)), settings, interrupt),
    ):
        raise AssertionError
    assert Cache(settings.cache_dir).list() == []


def test_progress_names_stage_numbers_and_time_left(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    seconds = iter(range(0, 1000, 4))
    monkeypatch.setattr(work_progress.time, "monotonic", lambda: next(seconds))
    progress = WorkProgress("images")
    with caplog.at_level(logging.INFO):
        for done in range(0, 12_000, 1_000):
            progress.update("decoding", done, 11_000)
        progress.update("waiting for another process", 0, 0)
    progress.close()
    assert caplog.messages[0].startswith("decoding images: ")
    assert " of 11,000, about " in caplog.messages[0]
    assert len(caplog.messages) <= 5, "a line every ten seconds"
