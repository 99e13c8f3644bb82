"""Targets of each task are converted to one form, or refused by array and row."""

from __future__ import annotations

import numpy as np
import pytest

from objectives.data import arrays
from objectives.data.errors import ArrayInvalidError
from objectives.data.targets import converted

STRINGS = np.array(["b", "a", "b"])
NFC, NFD = "caf\u00e9", "cafe\u0301"


def objects(*values: object) -> np.ndarray:
    found = np.empty(len(values), object)
    found[:] = values
    return found


@pytest.mark.parametrize(
    ("given", "expected", "names"),
    [
        (np.array([1, 0, 2], np.uint8), [1, 0, 2], ("0", "1", "2")),
        (np.array([[1], [0], [2]]), [1, 0, 2], ("0", "1", "2")),
        (np.array([1.0, 0.0, 2.0]), [1, 0, 2], ("0", "1", "2")),
        (np.array([True, False, True]), [1, 0, 1], ("0", "1")),
        (STRINGS, [1, 0, 1], ("a", "b")),
        (STRINGS.astype(bytes), [1, 0, 1], ("a", "b")),
        (STRINGS.astype(object)[:, np.newaxis], [1, 0, 1], ("a", "b")),
        (np.array(["10", "9", "10"]), [1, 0, 1], ("9", "10")),
        (np.array([NFC, "a", NFD]), [1, 0, 1], ("a", NFC)),
        (np.array(["می\u200cخواهم", "全\u3000角"]), [0, 1], ("می\u200cخواهم", "全\u3000角")),
        (np.eye(3)[[1, 0, 2]], [1, 0, 2], ("0", "1", "2")),
        (np.eye(4, dtype=bool)[[1, 0, 2]], [1, 0, 2], ("0", "1", "2", "3")),
        (objects(1, 0, 2), [1, 0, 2], ("0", "1", "2")),
        # Counted from 1: no class 0, which no row has.
        (np.array([2, 1, 3], np.uint8), [1, 0, 2], ("1", "2", "3")),
        (np.array([3, 1, 3]), [3, 1, 3], ("0", "1", "2", "3")),
        (np.eye(3)[[1, 2, 1]], [1, 2, 1], ("0", "1", "2")),
    ],
)
def test_classes_become_numbers(given, expected, names):
    targets, classes = converted("classes", {"y_train": given})
    assert targets["y_train"].dtype == np.int64
    assert (targets["y_train"].tolist(), classes) == (expected, names)


def test_declared_names_number_strings_in_their_order():
    targets, classes = converted("classes", {"y_train": STRINGS}, ["b", "c", "a"])
    assert (targets["y_train"].tolist(), classes) == ([0, 2, 0], ("b", "c", "a"))


@pytest.mark.parametrize(
    ("given", "expected", "names"),
    [
        (np.array([[1, 0], [1, 1], [0, 0]], bool), [[1, 0], [1, 1], [0, 0]], ("0", "1")),
        (np.array([[1.0, 0], [1, 1], [0, 0]]), [[1, 0], [1, 1], [0, 0]], ("0", "1")),
        (np.array(["b", "b| a", ""]), [[0, 1], [1, 1], [0, 0]], ("a", "b")),
        (objects(["b"], ("b", "a"), []), [[0, 1], [1, 1], [0, 0]], ("a", "b")),
    ],
)
def test_labels_become_columns(given, expected, names):
    targets, classes = converted("labels", {"y_train": given})
    assert targets["y_train"].dtype == np.uint8
    assert (targets["y_train"].tolist(), classes) == (expected, names)


@pytest.mark.parametrize(
    ("given", "expected", "names"),
    [
        (np.array([0, 1, 1]), [0, 1, 1], ("0", "1")),
        (np.array([-1, 1, 1]), [0, 1, 1], ("-1", "1")),
        (np.array([[False], [True], [True]]), [0, 1, 1], ("0", "1")),
        (np.array(["no", "yes", "yes"]), [0, 1, 1], ("no", "yes")),
        (np.eye(2)[[0, 1, 1]], [0, 1, 1], ("0", "1")),
        (np.array([0.0, 1.0, 1.0]), [0, 1, 1], ("0", "1")),
    ],
)
def test_binary_targets_become_zero_and_one(given, expected, names):
    targets, classes = converted("binary", {"y_train": given})
    assert targets["y_train"].dtype == np.int64
    assert (targets["y_train"].tolist(), classes) == (expected, names)


@pytest.mark.parametrize(
    ("given", "names"),
    [
        (np.array([1, 2, 3]), ("target",)),
        (np.array([[1.0], [2], [3]]), ("target",)),
        (np.ones((3, 2), np.float64), ("target_1", "target_2")),
        (objects(1, 2.5, 3), ("target",)),
    ],
)
def test_numbers_to_predict_become_columns(given, names):
    targets, classes = converted("regression", {"y_train": given})
    assert targets["y_train"].dtype == np.float32
    assert (targets["y_train"].shape, classes) == ((3, len(names)), names)


@pytest.mark.parametrize(
    ("task", "train", "test", "message"),
    [
        ("classes", np.array([0, 1]), np.array([0, 2]), "y_test has labels from 0 to 2, not 0 to 1"),
        ("classes", np.array([0, 2]), np.array([0, 1]), "y_test has the class 1, which y_train lacks: move"),
        ("classes", STRINGS, np.array(["a", "c"]), "y_test has the class 'c', but y_train has only a, b: move"),
        ("classes", np.array([0.0, 1.5]), None, "y_train is 1.5 in row 1, and classes are .*--task regression"),
        ("classes", np.array(["0.5", "1.5"]), None, "numbers such as 0.5 as classes: .*--task regression"),
        ("classes", np.array([0, -1]), None, "labels from -1 to 0, not 0 upwards"),
        ("classes", np.array([7, 99999]), None, "2 different labels up to 99,999: number the classes from 0"),
        ("classes", np.array([0.0, np.nan]), None, "y_train is nan in row 1"),
        ("classes", objects("a", None), None, "y_train has 'None' of type NoneType in row 1"),
        ("classes", np.array([[1, 1], [0, 1]]), None, "2 classes in row 0, .*--task labels"),
        ("classes", np.array([[0.2, 0.8], [0, 1]]), None, "y_train is 0.2 in row 0, not a one-hot row"),
        ("classes", np.zeros((2, 2, 2)), None, r"float64 of \(2, 2, 2\), not one class for each row"),
        ("classes", np.array(["a", " "]), None, "an empty class name in row 1"),
        ("classes", np.array(["a", "b\nc"]), None, "'b.nc' names a class, label or target: use 1 to 200 printable"),
        ("binary", np.array(["a", "b" * 201]), None, "'bbb.*… names a class, label or target: use 1 to 200"),
        ("labels", np.array(["a|b\tc"]), None, "'b.tc' names a class, label or target: use 1 to 200 printable"),
        ("classes", np.array(["2026-01-01"], "datetime64[D]"), None, "y_train is datetime64"),
        ("labels", np.array([0, 1]), None, r"int64 of \(2,\), not 0 or 1 for each label"),
        ("labels", np.array([[0, 2]]), None, "y_train is 2 in row 0, not 0 or 1 for each label"),
        ("labels", np.array([[0, 1]]), np.array([[0, 1, 1]]), "y_test has 3 labels, and y_train 2"),
        ("labels", np.array(["a|b"]), np.array(["a", "c"]), "y_test has the label 'c' in row 1, which y_train"),
        ("labels", np.array([""]), None, "no label in any row"),
        ("binary", np.array([0, 1, 2]), None, "3 different values, and task binary needs two"),
        ("binary", np.array([1, 1]), None, "1 different value, and"),
        ("binary", np.array([-1, 1]), np.array([0]), "y_test has the value 0, but y_train has only -1, 1"),
        ("regression", np.array(["a"]), None, "y_train has strings, and regression needs numbers"),
        ("regression", np.array([1.0, np.inf]), None, "y_train is inf in row 1"),
        ("regression", np.array([1e39]), None, "above 3.4e38"),
        ("regression", 1.7e9 + np.arange(5), None, "from 1700000000.0 to 1700000004.0 in column 0, whose differences"),
        ("regression", 2**40 + 1000 * np.arange(10).reshape(5, 2), None, "in column 0, whose differences are lost"),
        ("regression", np.ones(2), np.ones((2, 2)), "y_test has 2 targets, and y_train 1"),
        ("regression", np.zeros((0, 1)), None, "y_train is empty"),
        ("regression", np.ma.array([1.0, 2.0], mask=[0, 1]), None, "y_train has a masked value in row 1"),
    ],
)  # fmt: skip
def test_targets_that_do_not_fit_are_refused(task, train, test, message):
    given = {"y_train": train} | ({} if test is None else {"y_test": test})
    with pytest.raises(ArrayInvalidError, match=message) as caught:
        converted(task, given)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("task", "given", "names", "message"),
    [
        ("classes", np.array([0, 2]), ["a", "b"], "labels from 0 to 2, not 0 to 1"),
        ("classes", STRINGS, ["a"], "the class 'b', but classes of the objective are a"),
        (
            "classes",
            np.array([0, 1]),
            ["a", "a"],
            "'a' names 2 classes, labels or targets: name each differently",
        ),
        ("classes", np.array([0, 1]), [0, 1], "0 names a class, label or target: use 1 to 200 printable"),
        ("regression", np.ones((2, 2)), ["price", ""], "'' names a class, label or target"),
        ("labels", np.array([[0, 1]]), ["a"], "2 labels, and 1 are declared"),
        ("binary", np.array([0, 1]), ["a"], "1 classes are declared"),
        ("regression", np.ones((2, 2)), ["a"], "2 targets, and 1 are declared"),
    ],
)
def test_targets_that_do_not_fit_declared_names_are_refused(task, given, names, message):
    with pytest.raises(ArrayInvalidError, match=message):
        converted(task, {"y_train": given}, names)


@pytest.mark.parametrize(
    ("task", "y", "names", "message"),
    [
        ("classes", np.array([1, 1]), None, "y_train has the single class 1: a classifier needs rows of at least two"),
        ("classes", np.array(["a", "a "]), None, "the single class a"),
        ("classes", np.array(["a", "a"]), ["a", "b"], "the single class a"),
        ("binary", np.array([1, 1]), ["ill", "well"], "the single class well"),
        ("labels", np.zeros((2, 3), int), None, "y_train has no label in any row"),
        ("regression", np.zeros(2), None, None),
    ],
)  # fmt: skip
def test_training_targets_have_at_least_two_classes_or_a_label(task, y, names, message):
    pairs = {"train": (np.zeros((2, 3)), y)}
    if message is None:
        assert arrays.checked(pairs, task, names).task == task
        return
    with pytest.raises(ArrayInvalidError, match=message):
        arrays.checked(pairs, task, names)
