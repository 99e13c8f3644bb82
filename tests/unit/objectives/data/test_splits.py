"""Splits: stratified, seeded, disjoint, and blind to the test set."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest

from hpo.errors import DataDamagedError, ObjectiveBrokenError, UsageError
from objectives.base import DataOptions
from objectives.data import inputs, splits, statistics
from objectives.data.arrays import Arrays
from objectives.data.folds import fold_indices
from objectives.data.splits import split
from objectives.data.stratification import stratified
from objectives.data_options import TASKS
from tests.properties import given, st

COUNTS = (100, 60, 30, 10)


@pytest.fixture
def whole() -> Arrays:
    """Return images whose first two pixels number them, so that a split can be traced."""
    y = np.random.default_rng(0).permutation(np.repeat(np.arange(len(COUNTS)), COUNTS))
    x = np.zeros((len(y), 3, 3, 2), np.uint8)
    x[:, 0, 0, 0], x[:, 0, 0, 1] = np.arange(len(y)) % 256, np.arange(len(y)) // 256
    return Arrays(x, y, x[:40], y[:40])


def numbers(images: np.ndarray) -> set[int]:
    return set((images[:, 0, 0, 0].astype(int) + 256 * images[:, 0, 0, 1].astype(int)).tolist())


def test_training_and_validation_are_disjoint_and_stratified(whole):
    data = split(whole, DataOptions(validation_fraction=0.1), final=False)
    assert not numbers(data.x_train) & numbers(data.x_valid)
    assert numbers(data.x_train) | numbers(data.x_valid) == set(range(200))
    assert np.bincount(data.y_valid).tolist() == [10, 6, 3, 1]


def test_labels_stay_with_their_images(whole):
    data = split(whole, DataOptions(limit=50), final=False)
    for x, y in ((data.x_train, data.y_train), (data.x_valid, data.y_valid)):
        np.testing.assert_array_equal(whole.y_train[sorted(numbers(x))], y)


def test_split_depends_only_on_the_seed(whole):
    first, again, other = (split(whole, DataOptions(split_seed=seed), False) for seed in (1, 1, 2))
    assert numbers(first.x_valid) == numbers(again.x_valid) != numbers(other.x_valid)


def test_limit_keeps_the_class_proportions(whole):
    data = split(whole, DataOptions(limit=90, validation_fraction=0.1), final=False)
    assert np.bincount(data.y_train).tolist() == [45, 27, 14, 4]
    assert np.bincount(data.y_valid).tolist() == [5, 3, 1, 1]


def test_small_limit_keeps_one_image_per_class(whole):
    data = split(whole, DataOptions(limit=1), final=False)
    assert np.bincount(data.y_train).tolist() == np.bincount(data.y_valid).tolist() == [1, 1, 1, 1]


def test_final_run_trains_on_both_and_has_the_test_set(whole):
    options = DataOptions(limit=90)
    trial, final = split(whole, options, final=False), split(whole, options, final=True)
    assert trial.x_test is None
    assert trial.y_test is None
    assert numbers(final.x_train) == numbers(trial.x_train) | numbers(trial.x_valid)
    assert len(final.x_valid) == len(final.y_valid) == 0
    assert final.x_test is whole.x_test


@pytest.mark.parametrize("limit", [None, 120])
def test_final_run_trains_on_the_rows_of_all_folds(whole: Arrays, limit: int | None) -> None:
    options = DataOptions(limit=limit, folds=4)
    trial, final = split(whole, options, final=False), split(whole, options, final=True)
    assert len(final.x_train) == (limit or 200)
    assert len(final.x_valid) == len(final.y_valid) == 0
    assert numbers(final.x_train) == numbers(trial.x_train)


@pytest.mark.parametrize(("limit", "trained", "validated"), [(None, 200, 20), (100, 100, 10)])
def test_validation_images_of_the_data_set_are_used(
    whole: Arrays, limit: int | None, trained: int, validated: int
) -> None:
    x_valid = np.full((20, 3, 3, 2), 255, np.uint8)
    arrays, options = (
        replace(whole, x_valid=x_valid, y_valid=np.zeros(20, np.int64)),
        DataOptions(limit=limit),
    )
    trial, final = split(arrays, options, final=False), split(arrays, options, final=True)
    assert (
        (len(trial.x_train), len(trial.x_valid))
        == (len(trial.y_train), len(trial.y_valid))
        == (trained, validated)
    )
    assert (trial.x_valid.min(), trial.x_train[:, 1:].max()) == (255, 0)
    assert (len(final.x_train), len(final.y_train), len(final.x_valid)) == (trained + validated,) * 2 + (0,)
    assert final.y_train[trained:].tolist() == [0] * validated
    assert final.x_train[trained:].min() == 255


def test_statistics_take_a_tenth_of_the_memory_of_the_images():
    images = np.random.default_rng(0).integers(0, 256, (500, 64, 64, 3), dtype=np.uint8)
    tracemalloc.start()
    mean, _ = statistics.input_statistics(images)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < images.nbytes / 10
    np.testing.assert_allclose(mean, images.mean(axis=(0, 1, 2)) / 255, rtol=1e-12)


def test_mean_and_deviation_come_from_training_images_only(whole):
    data = split(whole, DataOptions(), final=False)
    scaled = data.x_train.astype(np.float64) / 255
    np.testing.assert_allclose(data.mean, scaled.mean(axis=(0, 1, 2)), rtol=1e-12)
    np.testing.assert_allclose(data.std, np.maximum(scaled.std(axis=(0, 1, 2)), 1e-3), rtol=1e-9)


def test_classes_are_numbered_unless_named(whole):
    assert split(whole, DataOptions(), False).classes == ("0", "1", "2", "3")
    assert split(whole, DataOptions(), False, tuple("abcd")).class_count == 4


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1, 2.0])
def test_validation_fraction_outside_0_to_1_is_refused(whole, fraction):
    with pytest.raises(UsageError, match="validation fraction"):
        split(whole, DataOptions(validation_fraction=fraction), final=False)


def test_limit_below_one_is_refused(whole):
    with pytest.raises(UsageError, match="at least 1"):
        split(whole, DataOptions(limit=0), final=False)


def test_final_split_without_test_set_is_refused(whole):
    with pytest.raises(DataDamagedError, match="no test set"):
        split(replace(whole, x_test=None, y_test=None), DataOptions(), final=True)


def test_classes_of_one_image_are_refused():
    with pytest.raises(DataDamagedError, match="two examples"):
        split(Arrays(np.zeros((3, 2, 2, 1), np.uint8), np.arange(3)), DataOptions(), final=False)


@given(
    sizes=st.lists(st.integers(1, 40), min_size=1, max_size=8),
    share=st.floats(0.0, 1.0),
    spare=st.integers(0, 1),
)
def test_stratified_takes_each_class_in_proportion(sizes, share, spare):
    labels = np.repeat(np.arange(len(sizes)), sizes)
    count = round(share * len(labels))
    chosen = stratified(labels, count, np.random.default_rng(0), spare)
    assert len(set(chosen.tolist())) == len(chosen)
    taken = np.bincount(labels[chosen], minlength=len(sizes))
    for size, number in zip(sizes, taken, strict=True):
        most = size - spare
        assert min(1, most) <= number <= most
        assert abs(number - size * count / len(labels)) <= 1 or number in (1, most)


def rows_of(task: str, count: int = 200) -> np.ndarray:
    rng = np.random.default_rng(3)
    if task == "regression":
        return rng.normal(size=(count, 1)).astype(np.float32)
    if task == "labels":
        return (rng.random((count, 3)) < 0.3).astype(np.uint8)
    return np.arange(count) % 2


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("groups", [None, np.repeat(np.arange(50), 4)])
@pytest.mark.parametrize("limit", [None, 80])
def test_every_task_is_split(task, groups, limit):
    y = rows_of(task)
    x = {"a": np.arange(200.0), "b": np.array([f"{n}" for n in range(200)])}
    arrays = Arrays(
        x,
        y,
        task=task,
        has_test=False,
        groups=groups,
        classes=("a", "b", "c")[: 1 if task == "regression" else 3],
    )
    options = DataOptions(limit=limit, source="mine")
    trial, final = split(arrays, options, final=False), split(arrays, options, final=True)
    parts = [part["a"].astype(int) for part in (trial.x_train, trial.x_valid, final.x_test)]
    sizes = [len(part) for part in parts]
    # Groups with all sets of labels cannot be divided evenly.
    tolerance = 12 if task == "labels" and groups is not None else 4
    assert sizes[2] == pytest.approx(40, abs=tolerance)
    assert sizes[0] == pytest.approx(limit or 144, abs=tolerance)
    assert sizes[1] == pytest.approx(9 if limit else 16, abs=4)
    assert len(set(np.concatenate(parts).tolist())) == sum(sizes)
    assert sorted(final.x_train["a"].tolist()) == sorted(np.concatenate(parts[:2]).tolist())
    for part, targets in ((parts[0], trial.y_train), (parts[1], trial.y_valid), (parts[2], final.y_test)):
        np.testing.assert_array_equal(targets, y[part])
    if groups is not None:
        of_parts = [set(groups[part].tolist()) for part in parts]
        assert not of_parts[0] & of_parts[1] | of_parts[0] & of_parts[2] | of_parts[1] & of_parts[2]
    assert (trial.mean, trial.std, trial.input_shape) == ((), (), {"a": (), "b": ()})
    with pytest.raises(ObjectiveBrokenError, match=r"data\.image_shape is for images"):
        _ = trial.image_shape


def test_sets_of_labels_keep_their_proportions():
    y = np.repeat(np.array([[1, 0], [0, 1], [1, 1]], np.uint8), (120, 60, 20), axis=0)
    _, valid = splits.split_indices(y, DataOptions(), task="labels")
    assert np.unique(y[valid], axis=0, return_counts=True)[1].tolist() == [6, 12, 2]


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("groups", [None, np.repeat(np.arange(50), 4)])
def test_each_row_is_validated_in_one_fold(task, groups):
    y = rows_of(task)
    folds = fold_indices(y, DataOptions(), 5, task, groups)
    assert sorted(np.concatenate([valid for _, valid in folds]).tolist()) == list(range(200))
    for train, valid in folds:
        assert len(valid) == pytest.approx(40, abs=0 if groups is None else 4)
        assert sorted([*train, *valid]) == list(range(200))
        if groups is not None:
            assert not set(groups[train].tolist()) & set(groups[valid].tolist())
        if task in ("classes", "binary"):
            assert np.bincount(y[valid]).tolist() == [len(valid) // 2] * 2
    again = fold_indices(y, DataOptions(), 5, task, groups)
    assert all((one[1] == other[1]).all() for one, other in zip(folds, again, strict=True))
    assert (fold_indices(y, DataOptions(split_seed=1), 5, task, groups)[0][1] != folds[0][1]).any()


def test_folds_keep_to_the_limit():
    folds = fold_indices(rows_of("classes"), DataOptions(limit=50), 5)
    assert {(len(train), len(valid)) for train, valid in folds} == {(40, 10)}


@pytest.mark.parametrize(
    ("y", "k", "task", "groups", "error", "message"),
    [
        (np.arange(200) % 2, 1, "classes", None, UsageError, "at least 2 folds, not 1"),
        (np.repeat([0, 1], (50, 4)), 5, "classes", None, DataDamagedError, "class dog has 4 training rows, and 5"),
        (np.repeat([0, 1], (50, 1)), 2, "binary", None, DataDamagedError, "class dog has 1 training row, and 2 folds"),
        (np.zeros((3, 1)), 5, "regression", None, DataDamagedError, "3 training rows cannot be divided into 5"),
        (np.arange(20) % 2, 5, "binary", np.arange(20) % 4, DataDamagedError, "4 groups cannot be divided into 5"),
        (np.arange(20) % 2, 3, "classes", np.arange(20) % 4, DataDamagedError, "class cat has .* in 2 groups, and 3"),
        (
            np.repeat([0, 1], (16, 4)),
            2,
            "classes",
            np.repeat([0, 1, 2, 9], (5, 5, 6, 4)),
            DataDamagedError,
            "class dog has training rows in 1 group, and 2 folds need a group of it each: use fewer folds, or smaller",
        ),
    ],
)  # fmt: skip
def test_folds_of_too_few_rows_are_refused(y, k, task, groups, error, message):
    with pytest.raises(error, match=message):
        fold_indices(y, DataOptions(), k, task, groups, ("cat", "dog"))


def test_fold_without_a_class_is_refused():
    # The largest groups are dealt first, and then no group of class 0 is left for the third fold.
    y = np.array([0, 1, 2, 0, 1, 2, 0, 3, 1, 3, 2, 3])
    groups = np.array([0, 0, 0, 1, 1, 1, 2, 2, 3, 3, 4, 4])
    with pytest.raises(DataDamagedError, match="a fold would hold out no row of class"):
        fold_indices(y, DataOptions(), 3, "classes", groups)


@pytest.mark.parametrize("task", ["labels", "regression"])
@pytest.mark.parametrize("k", [2, 3])
def test_no_fold_is_empty(task, k):
    # Each group has labels of its own.
    groups = np.arange(90) // 30
    y = np.eye(3, dtype=np.uint8)[groups]
    folds = fold_indices(y, DataOptions(), k, task, groups)
    assert all(len(train) and len(valid) for train, valid in folds)
    assert sorted(np.concatenate([valid for _, valid in folds]).tolist()) == list(range(90))


def test_groups_too_large_for_a_test_set_are_refused():
    data = Arrays(np.zeros((20, 2), np.float32), np.arange(20) % 2, has_test=False, groups=np.arange(20) % 4)
    with pytest.raises(DataDamagedError, match="no group can be held out for the test set: give smaller"):
        splits.split(data, DataOptions(source="x.npz"), final=False)


@pytest.mark.parametrize(
    ("x", "mean", "std"),
    [
        (np.full((4, 2, 2, 1), 65535, np.uint16), 1.0, 1e-3),
        (np.array([0, 2] * 8, np.float32).reshape(4, 2, 2, 1), 1.0, 1.0),
        (np.full((4, 2, 2, 1), 7.0, np.float32), 7.0, 1.0),
        (np.array([0, 4] * 8).reshape(4, 2, 2, 1), 2.0, 2.0),
    ],
)
def test_statistics_of_images_of_any_type(monkeypatch, x, mean, std):
    monkeypatch.setattr(inputs, "BLOCK_BYTES", 8)
    assert statistics.input_statistics(x) == ((mean,), (std,))


@pytest.mark.parametrize(("limit", "rows"), [(None, 160), (80, 80)])
def test_data_in_folds_are_all_rows_but_those_of_a_made_test_set(whole, limit, rows):
    options = DataOptions(source="given", folds=4, limit=limit)
    arrays = replace(whole, x_test=None, y_test=None, has_test=False)
    data = split(arrays, options, final=False)
    assert (len(data.x_train), len(data.x_valid), data.x_test) == (rows, 0, None)
    _, test = splits.training_and_test(arrays, options)
    assert not numbers(data.x_train) & set(test.tolist())
    np.testing.assert_array_equal(whole.y_train[sorted(numbers(data.x_train))], data.y_train)
    assert sorted(np.concatenate([valid for _, valid in data.folds]).tolist()) == list(range(rows))
    assert all(sorted([*train, *valid]) == list(range(rows)) for train, valid in data.folds)
    assert data.mean == statistics.input_statistics(data.x_train)[0]
    final = split(arrays, options, final=True)
    assert (final.folds, numbers(final.x_test)) == ((), set(test.tolist()))


def test_folds_next_to_own_validation_rows_are_refused(whole):
    own = replace(whole, x_valid=whole.x_train[:20], y_valid=whole.y_train[:20])
    with pytest.raises(UsageError, match=r"validation split of their own.*leave --folds out"):
        split(own, DataOptions(folds=4), final=False)
