"""Exploration of each task, and of inputs that are not images."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hpo.document import files
from hpo.explore.dataset import Dataset
from hpo.explore.exploration_document import Exploration
from hpo.explore.explore import explore
from hpo.explore.judgement import judge
from objectives.base import DataOptions
from objectives.data.arrays import checked
from objectives.data.splits import split, split_indices
from objectives.data_options import TaskName

pytestmark = pytest.mark.usefixtures("complete_documents")


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the pictures for Markdown empty: drawing them takes most of the time, and other tests look at them."""
    monkeypatch.setattr(files, "draw_gallery", lambda _: b"")
    monkeypatch.setattr(files, "draw_png", lambda _: b"")


def made(task: TaskName, x: Any, y: Any) -> Dataset:
    arrays = checked({"train": (x, y)}, task)
    train, valid = split_indices(arrays.y_train, DataOptions(), task=task)
    return Dataset(
        name="made",
        title="",
        data=split(arrays, DataOptions(), final=False),
        x_test=None,
        y_test=None,
        indices={"training": train, "validation": valid},
        augmentations={},
    )


def images(count: int, dtype: Any = np.uint8) -> np.ndarray:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (count, 12, 12, 3), np.uint8)
    return pixels if dtype == np.uint8 else (pixels / 255).astype(dtype)


def explored(dataset: Dataset, folder: Path, found: Exploration | None = None) -> tuple[dict[str, Any], str]:
    explore(dataset, folder, found)
    return json.loads((folder / "statistics.json").read_text()), (folder / "explore.md").read_text()


def test_labels_are_counted_alone_and_together(tmp_path: Path) -> None:
    y = np.array(["cat | dog", "cat", "", "dog | tree"] * 15)
    found, page = explored(made("labels", images(60), y), tmp_path)
    assert found["classes"] == ["cat", "dog", "tree"]
    counts = found["label_counts"]
    assert [a + b for a, b in zip(counts["training"], counts["validation"], strict=True)] == [30, 30, 15]
    each = np.array([2, 1, 0, 2] * 15)[made("labels", images(60), y).indices["training"]]
    assert (
        f"{each.mean():.2f} labels on average, at most 2; {100 * (each == 0).mean():.1f} % have none" in page
    )
    assert "pictures/together.png" in page


def test_distribution_of_numbers_is_described(tmp_path: Path) -> None:
    y = np.where(np.arange(80) % 4 == 0, 99.0, np.arange(80.0))
    found, page = explored(made("regression", images(80, np.float32), y), tmp_path)
    assert found["targets"]["training"]["target"]["highest"] == 99
    assert "have the same target, 99" in page
    assert "from the lowest target to the highest" in page
    assert "Kolmogorov-Smirnov" in page
    assert "class" not in found


def test_constant_target_is_named(tmp_path: Path) -> None:
    _, page = explored(
        made("regression", np.random.default_rng(0).normal(size=(40, 3)), np.ones(40)), tmp_path
    )
    assert "so there is nothing to learn" in page


def test_features_texts_and_several_inputs_are_described(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x = {
        "measured": np.stack([rng.normal(size=60), np.ones(60), 1e4 * rng.normal(size=60)], axis=1),
        "title": np.array(["a red fox", ""] * 30),
    }
    x["measured"][7], x["title"][7] = x["measured"][3], x["title"][3]
    found, page = explored(made("binary", x, np.array(["no", "yes"] * 30)), tmp_path)
    assert found["classes"] == ["no", "yes"]
    assert found["inputs"]["measured"] == {"shape": [3], "dtype": "float32"}
    assert "1 feature without variation" in page
    assert "normalize them" in page
    assert "different texts" in page
    (group,) = found["identical"]
    assert sorted(place["index"] for place in group) == [3, 7]
    assert "near_duplicates" not in found


def test_images_among_several_inputs_are_described_by_channel(tmp_path: Path) -> None:
    _, page = explored(
        made("binary", {"photo": images(40), "row": np.arange(40.0)}, np.arange(40) % 2), tmp_path
    )
    assert [line.split(" |")[0] for line in page.splitlines() if line.startswith("| photo")] == [
        f"| photo\\[…, {channel}\\]" for channel in range(3)
    ]
    assert "photo\\[…, 3" not in page


def test_contradictory_group_lists_each_label_and_few_rows(tmp_path: Path) -> None:
    x = np.arange(60.0)
    x[:30] = 1.0
    y = np.zeros(60, np.int64)
    y[29], y[45:] = 1, 1
    _, page = explored(made("binary", x, y), tmp_path)
    (line,) = (line for line in page.splitlines() if "have the same label" in line)
    assert line.count("(0)") + line.count("(1)") == 6
    assert "(1)" in line
    (listed,) = (line for line in page.splitlines() if "; … (" in line)
    assert listed.endswith("; … (30 rows) |")
    assert "validation" in listed
    assert line.endswith(", … |")


@pytest.mark.parametrize(
    ("task", "groups", "way"),
    [
        ("classes", False, "stratified by class"),
        ("labels", False, "stratified by sets of labels"),
        ("regression", False, "drawn at random"),
        ("binary", True, "whole groups, in proportion to the classes"),
        ("labels", True, "whole groups, in proportion to the sets of labels"),
        ("regression", True, "whole groups, drawn at random"),
    ],
)
def test_page_names_how_splits_are_made(task: TaskName, groups: bool, way: str, tmp_path: Path) -> None:
    y = {"labels": np.eye(3, dtype=np.uint8)[np.arange(60) % 3]}.get(task, np.arange(60) % 2)
    dataset = replace(made(task, np.arange(60.0), y), made=["validation", "test"], has_groups=groups)
    _, page = explored(dataset, tmp_path)
    assert f"The validation and test rows are held out of the others as a launch does it: {way}, and" in page
    _, page = explored(replace(dataset, made=()), tmp_path)
    assert "All splits are the data set's own." in page


@pytest.mark.parametrize(
    ("task", "y", "wrong"),
    [
        ("classes", np.arange(60) % 3, lambda y: np.eye(3)[(y + (np.arange(len(y)) == 5)) % 3]),
        ("binary", np.arange(60) % 2, lambda y: np.where(np.arange(len(y)) == 5, 1 - y, y)[:, None] * 1.0),
        ("labels", np.eye(3, dtype=np.uint8)[np.arange(60) % 3], lambda y: abs(y - (np.arange(len(y)) == 5)[:, None])),
        ("regression", np.arange(60.0), lambda y: y + 50.0 * (np.arange(len(y)) == 5)[:, None]),
    ],
)  # fmt: skip
def test_model_judges_labels(task: TaskName, y: np.ndarray, wrong: Any, tmp_path: Path) -> None:
    dataset = made(task, images(60), y)
    answers = {len(dataset.data.y_train): wrong(dataset.data.y_train)}
    answers[len(dataset.data.y_valid)] = wrong(dataset.data.y_valid)
    judgement = judge(dataset, lambda x: answers[len(x)], "the model m", unseen=("validation",))
    assert list(judgement.splits) == ["validation", "training"]
    assert [one.index for one in judgement.splits["training"].suspects] == [5]
    found, page = explored(dataset, tmp_path, Exploration(dataset, judgement))
    (suspect,) = found["judgement"]["splits"]["training"]["suspects"]
    assert suspect["index"] == dataset.number("training", 5)
    assert "Judged by the model m" in page
    assert "seen in training" in page
