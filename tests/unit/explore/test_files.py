"""Exploration of a folder or table of images: findings on files, named by their paths."""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from hpo.document import files
from hpo.errors import DataDamagedError
from hpo.explore import dataset as dataset_module
from hpo.explore.explore import explore
from hpo.explore.sources import opened_dataset
from hpo.settings import Settings
from objectives.base import DataOptions
from objectives.images.provision import provided
from tests.photos import make_photos

pytestmark = pytest.mark.usefixtures("complete_documents")


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the pictures for Markdown empty: drawing them takes most of the time, and other tests look at them."""
    monkeypatch.setattr(files, "draw_gallery", lambda _: b"")
    monkeypatch.setattr(files, "draw_png", lambda _: b"")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings.from_environment(
        {"HPO_HOME": str(tmp_path / "home"), "HPO_RESULTS_DIR": str(tmp_path / "out")}
    )


def explored(
    source: Path, settings: Settings, options: DataOptions | None = None
) -> tuple[dict[str, Any], str]:
    """Explore a source; return the statistics and the Markdown page."""
    folder = settings.results_dir / "found"
    with opened_dataset(str(source), settings, options or DataOptions()) as dataset:
        explore(dataset, folder)
    return json.loads((folder / "statistics.json").read_text()), (folder / "explore.md").read_text()


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Photos among which are broken files, copies under other labels and formats, and a grey one of 16 bits."""
    folder = make_photos(tmp_path / "photos", 12)
    shutil.copy(folder / "cross" / "001.png", folder / "disc" / "copy of a cross.png")
    Image.open(folder / "disc" / "003.bmp").save(folder / "disc" / "again.png")
    Image.new("I;16", (300, 20), 9000).save(folder / "stripes" / "wide.png")
    (folder / "disc" / "half.jpg").write_bytes((folder / "disc" / "000.jpg").read_bytes()[:400])
    (folder / "disc" / "empty.jpg").touch()
    (folder / "disc" / "notes.txt").touch()
    return folder


def test_files_of_a_folder_are_described_by_their_paths(photos: Path, settings: Settings) -> None:
    found, page = explored(photos, settings)
    described = found["files"]
    assert sum(described["formats"].values()) == 39
    assert described["colours"] == {"colour": 38, "grey, 16 bits": 1}
    assert described["width"]["highest"] == 300
    assert set(described["unreadable"]) == {"disc/half.jpg", "disc/empty.jpg"}
    assert described["ignored"] == ["disc/notes.txt"]
    pairs = sorted(sorted(place["path"] for place in group) for group in found["identical"])
    assert pairs == [["cross/001.png", "disc/copy of a cross.png"], ["disc/003.bmp", "disc/again.png"]]
    assert found["contradictory_labels"] == 1
    assert "cross/001.png (cross)" in page
    assert "hpo launch refuses them" in page
    assert "The validation and test images are held out of the others" in page


def test_launch_finds_explored_images_in_the_cache(photos: Path, settings: Settings) -> None:
    options = DataOptions(image_size=24)
    found, _ = explored(photos, settings, options)
    assert found["image_shape"] == [24, 24, 3]
    stages: list[str] = []
    from hpo.agent.image_data import image_cache

    launched = replace(options, source=str(photos), skip_unreadable=True)
    with provided(launched, image_cache(settings), lambda stage, *_: stages.append(stage)):
        assert "decoding" not in stages


def test_groups_and_own_splits_of_a_table_are_shown(tmp_path: Path, settings: Settings) -> None:
    make_photos(tmp_path / "photos", 6)
    rows = [
        (
            path.relative_to(tmp_path),
            path.parent.name,
            ("train", "val", "test")[number % 3],
            f"person {number}",
        )
        for number, path in enumerate(sorted((tmp_path / "photos").rglob("*.*")))
    ]
    with (tmp_path / "images.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("path", "label", "split", "group"), *rows])
    found, page = explored(tmp_path / "images.csv", settings)
    assert found["files"]["groups"] == 18
    assert found["files"]["made_splits"] == []
    assert "| training | 6 | 6 |" in page
    assert "All splits are the data set's own." in page


def test_large_images_are_sampled_and_the_page_states_it(
    photos: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dataset_module, "MOST_BYTES", 30_000)
    found, page = explored(photos, settings)
    assert found["examined_every"] > 1
    assert f"every {found['examined_every']}th one" in page
    # Identical images are searched among all.
    assert len(found["identical"]) == 2
    training = {name for name in page.splitlines() if name.startswith("| 0 | cross")}
    assert len(training) == 1


def test_source_that_no_classifier_can_be_trained_on_is_refused(tmp_path: Path, settings: Settings) -> None:
    make_photos(tmp_path / "photos", 4)
    for name in ("disc", "stripes"):
        shutil.rmtree(tmp_path / "photos" / name)
    with pytest.raises(DataDamagedError, match="single class cross"):
        explored(tmp_path / "photos", settings)
