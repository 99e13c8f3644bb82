import json
from pathlib import Path

import numpy as np
import pytest

from hpo.document.document import Figure
from hpo.errors import UsageError
from hpo.explore import (
    duplicate_sections,
    exploration_document,
    galleries,
    input_sections,
    label_sections,
    pixel_sections,
    target_sections,
)
from hpo.explore.duplicates import find_duplicates
from hpo.explore.exploration_document import Exploration, build_exploration
from hpo.explore.explore import explore
from hpo.explore.galleries import augmentations
from hpo.explore.label_errors import class_means
from hpo.explore.sources import load_dataset
from hpo.explore.statistics import balance, channels
from objectives.base import DataOptions
from objectives.data.arrays import Images, Labels
from objectives.data_loading import load_data
from tests.broken_parts import check_parts, fail

pytestmark = pytest.mark.usefixtures("complete_documents")

RNG = np.random.default_rng(0)


def images(count: int, size: int = 16, channels: int = 1) -> Images:
    return RNG.integers(0, 256, (count, size, size, channels), dtype=np.uint8)


def labels(*values: int) -> Labels:
    return np.array(values, dtype=np.int64)


def test_balance_reports_size_and_significance() -> None:
    even = {"training": np.arange(100) % 2}
    found = balance(even, 2)
    assert found.counts == {"training": [50, 50]}
    assert found.p_uniform == pytest.approx(1.0)
    assert "no significant imbalance" in found.describe_classes()
    skewed = balance({"training": (np.arange(100) % 10 == 0).astype(np.int64)}, 2)
    assert skewed.ratio == pytest.approx(9.0)
    assert "recall" in skewed.describe_classes()


def test_class_without_images_is_reported() -> None:
    found = balance({"training": labels(0, 0, 1, 1)}, 3)
    assert found.ratio is None
    assert "no training images" in found.describe_classes()


def test_different_class_shares_of_splits_are_reported() -> None:
    ones, zeros = np.ones(200, dtype=np.int64), np.zeros(200, dtype=np.int64)
    mixed = np.arange(200) % 2
    differ = balance({"training": ones, "test": zeros}, 2)
    alike = balance({"training": mixed, "test": mixed}, 2)
    assert "do not differ significantly" in alike.describe_splits()
    assert "differ significantly" in differ.describe_splits()
    assert "do not" not in differ.describe_splits()


def test_pixel_statistics_match_numpy() -> None:
    x = images(20, channels=3)
    x[0, 0, 0] = (0, 255, 7)
    for index, one in enumerate(channels("training", x)):
        values = x[..., index].astype(float)
        assert one.mean == pytest.approx(values.mean())
        assert one.std == pytest.approx(values.std())
        assert (one.min, one.max) == (values.min(), values.max())
        assert one.share_low == pytest.approx((values == 0).mean())
        assert one.share_high == pytest.approx((values == 255).mean())


def test_identical_images_and_contradictory_labels_are_found() -> None:
    x = images(10)
    test = images(5)
    x[7], test[2] = x[3], x[3]
    y = np.zeros(10, dtype=np.int64)
    y[7] = 1
    found = find_duplicates({"training": (x, y), "test": (test, np.zeros(5, dtype=np.int64))})
    assert [[(place.split, place.index) for place in group] for group in found.groups] == [
        [("training", 3), ("training", 7), ("test", 2)]
    ]
    assert len(found.contradictions) == 1
    assert found.groups_by_splits() == {("training", "test"): 1}
    assert found.pairs == []


def test_noisy_darker_copy_is_a_near_duplicate() -> None:
    x = np.kron(images(30, 8), np.ones((1, 4, 4, 1), dtype=np.uint8))
    copy = np.clip(x[4] * 0.7 + RNG.normal(0, 6, x[4].shape) + 20, 0, 255).astype(np.uint8)
    found = find_duplicates({"training": (x, np.zeros(30, dtype=np.int64)), "test": (copy[None], labels(0))})
    assert found.groups == []
    assert found.pairs is not None
    assert [(pair.first.index, pair.second.split) for pair in found.pairs] == [(4, "test")]
    assert 0.95 <= found.pairs[0].correlation < 1


def test_noise_with_similar_thumbnails_is_no_near_duplicate() -> None:
    x = np.random.default_rng(0).integers(0, 256, (3000, 20, 30, 4), dtype=np.uint8)
    found = find_duplicates({"training": (x, np.zeros(3000, dtype=np.int64))})
    assert (found.groups, found.pairs) == ([], [])


def test_uniform_images_are_no_near_duplicates() -> None:
    x = np.stack([np.full((16, 16, 1), value, dtype=np.uint8) for value in range(20)])
    found = find_duplicates({"training": (x, np.zeros(20, dtype=np.int64))})
    assert (found.groups, found.pairs) == ([], [])


def test_swapped_label_is_suspected() -> None:
    y = np.repeat([0, 1], 50)
    x = np.where(y[:, None, None, None] == 0, 40, 200) + RNG.integers(0, 30, (100, 8, 8, 1))
    y[10] = 1
    found = class_means(x.astype(np.uint8), y, 3)
    assert [(one.index, one.label, one.nearest) for one in found.suspects] == [(10, 1, 0)]
    assert found.accuracy == pytest.approx(0.99)
    assert not found.means[2].any()


def test_images_have_their_indices_in_the_file(tmp_path: Path) -> None:
    x, y = images(100, 28), np.arange(100) % 10
    x[57] = x[31]
    np.savez(tmp_path / "own.npz", x_train=x, y_train=y, x_test=x[57][None], y_test=y[:1])
    document, _ = explore(load_dataset("own", tmp_path), tmp_path / "found")
    found = json.loads((tmp_path / "found" / "statistics.json").read_text())
    (group,) = found["identical"]
    assert sorted(place["index"] for place in group if place["split"] != "test") == [31, 57]
    assert [place["index"] for place in group if place["split"] == "test"] == [0]
    shown = [
        picture.caption
        for section in document.sections if section.title == "Examples"
        for gallery in section.blocks for picture in gallery.pictures
    ]  # fmt: skip
    assert shown
    dataset = load_dataset("own", tmp_path)
    for name, (pixels, labels_) in dataset.splits.items():
        source = x[57][None] if name == "test" else x
        for position in range(len(labels_)):
            np.testing.assert_array_equal(source[dataset.number(name, position)], pixels[position])


@pytest.mark.parametrize("classes", [1, 2])
def test_too_few_images_are_not_tested(classes: int) -> None:
    y = np.arange(8) % classes
    found = balance({"training": y, "test": y[:4]}, classes)
    assert (found.p_uniform, found.p_same) == (None, None)
    assert "too few images or classes for a test" in found.describe_classes()
    assert "too few images or classes for a test" in found.describe_splits()


def test_augmentations_shown_are_those_of_the_objectives(tmp_path: Path) -> None:
    x, y = images(100, 28), np.arange(100) % 10
    np.savez(tmp_path / "mnist.npz", x_train=x, y_train=y, x_test=x[:20], y_test=y[:20])
    dataset = load_dataset("mnist", tmp_path)
    assert {name: one.shift for name, one in dataset.augmentations.items()} == {
        "mnist-cnn": 2,
        "mnist-resnet": 2,
    }
    (gallery,) = augmentations(dataset)
    assert gallery.caption == (
        "Shifted by up to 2 pixels in each direction, as in mnist-cnn and mnist-resnet."
    )


def test_pixel_chart_joins_the_values_that_occur(tmp_path: Path) -> None:
    x, y = images(60, 12) // 16 * 16, np.arange(60) % 3
    np.savez(tmp_path / "mine.npz", x_train=x[:50], y_train=y[:50], x_test=x[50:], y_test=y[50:])
    document, _ = explore(load_dataset("mine", tmp_path), tmp_path / "out")
    pixels = next(section for section in document.sections if section.title == "Pixels")
    (figure,) = (block for block in pixels.blocks if isinstance(block, Figure))
    (series,) = figure.panels[0].series
    assert [point.x for point in series.points] == list(range(0, 256, 16))
    assert all(point.y for point in series.points)


def test_exploration_of_a_users_file(tmp_path: Path) -> None:
    x, y = images(60, 12, 3), np.arange(60) % 3
    x[30] = x[0]
    np.savez(tmp_path / "mine.npz", x_train=x[:50], y_train=y[:50], x_test=x[50:], y_test=y[50:])
    dataset = load_dataset("mine", tmp_path)
    document, names = explore(dataset, tmp_path / "out")
    assert [section.title for section in document.sections] == [
        "Classes",
        "Examples",
        "Pixels",
        "Normalization",
        "Augmentation",
        "Duplicates",
        "Labels",
        "Mean images",
    ]
    assert sorted(names) == sorted(
        str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*.*")
    )
    text = (tmp_path / "out" / "explore.md").read_text()
    for name in names:
        assert not name.endswith(".png") or f"({name})" in text
    statistics = json.loads((tmp_path / "out" / "statistics.json").read_text())
    assert statistics["images"] == {"training": 45, "validation": 5, "test": 10}
    assert len(statistics["identical"]) == 1
    page = (tmp_path / "out" / "explore.html").read_text()
    assert "http-equiv" in page
    assert "an example that no objective uses here" in page


def test_part_that_cannot_be_made_does_not_cost_the_exploration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    x, y = images(60, 12, 3), np.arange(60) % 3
    np.savez(tmp_path / "mine.npz", x_train=x[:50], y_train=y[:50], x_test=x[50:], y_test=y[50:])
    dataset = load_dataset("mine", tmp_path)
    modules = (
        exploration_document,
        duplicate_sections,
        galleries,
        input_sections,
        label_sections,
        pixel_sections,
        target_sections,
    )
    # The findings are computed once: their functions are in other modules.
    found = Exploration(dataset)
    check_parts(lambda: build_exploration(dataset, found), modules, monkeypatch)
    monkeypatch.setattr(exploration_document, "class_means", fail)
    _, names = explore(dataset, tmp_path / "out")
    assert "statistics.json is left out" in (tmp_path / "out" / "statistics.json").read_text()
    assert {"explore.html", "explore.md"} < set(names)
    caplog.clear()


def test_data_set_of_an_objective_is_loaded(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(
        "import numpy as np\n"
        "from optuna.distributions import FloatDistribution\n"
        "from objectives.augment import Augmentation\n"
        "from objectives.keras_objective import KerasObjective\n"
        "def shapes():\n"
        "    rng = np.random.default_rng(0)\n"
        "    return rng.integers(0, 256, (40, 8, 8), dtype=np.uint8), np.arange(40) % 2\n"
        "class Mine(KerasObjective):\n"
        "    dataset = shapes\n"
        "    space = {'dropout': FloatDistribution(0.0, 0.6)}\n"
        "    classes = ('round', 'square')\n"
        "    augmentation = Augmentation(flip=True)\n"
        "    def build(self, params, data): ...\n"
    )
    dataset = load_dataset(f"{path}:Mine", tmp_path)
    assert (dataset.name, dataset.data.classes) == ("Mine", ("round", "square"))
    assert list(dataset.splits) == ["training", "validation"]
    assert [one.flip for one in dataset.augmentations.values()] == [True]


def test_unknown_name_lists_the_available_data_sets(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="digits, mnist, cifar10"):
        load_dataset("nothing", tmp_path)


def test_folder_of_arrays_is_split_as_by_a_launch(tmp_path: Path) -> None:
    x, y = images(100, 8), np.arange(100) % 2
    (tmp_path / "own").mkdir()
    np.save(tmp_path / "own" / "x_train.npy", x)
    np.save(tmp_path / "own" / "y_train.npy", y)
    options = DataOptions(source=str(tmp_path / "own"))
    dataset = load_dataset(str(tmp_path / "own"), tmp_path)
    for final in (False, True):
        launched = load_data(None, None, options, final)
        name = "test" if final else "validation"
        np.testing.assert_array_equal(dataset.splits[name][0], launched.x_test if final else launched.x_valid)
    for split, (pixels, _) in dataset.splits.items():
        np.testing.assert_array_equal(x[dataset.number(split, 3)], pixels[3])
