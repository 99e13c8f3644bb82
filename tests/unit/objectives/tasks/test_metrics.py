"""Metrics by name equal scikit-learn's, and intervals and curves are as large as they should be."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn import metrics as sklearn_metrics

from objectives.tasks import intervals as interval_module
from objectives.tasks.curves import MOST_CURVES, MOST_POINTS, curves
from objectives.tasks.intervals import intervals, wilson
from objectives.tasks.metrics import METRICS, names_of, positives

RNG = np.random.default_rng(0)
CLASSES = RNG.integers(0, 7, 200)
SHARES = RNG.dirichlet(np.ones(7), 200).round(2) + 0.01
BINARY, CHANCES = RNG.integers(0, 2, 200), RNG.uniform(0.05, 0.95, 200).round(2)
LABELS, SCORES = RNG.integers(0, 2, (200, 4)).astype(np.uint8), RNG.random((200, 4)).round(2)
VALUES, FOUND = RNG.normal(size=(200, 3)).astype(np.float32), RNG.normal(size=(200, 3))
GIVEN = {
    "classes": (CLASSES, SHARES / SHARES.sum(axis=1, keepdims=True)),
    "binary": (BINARY, CHANCES),
    "labels": (LABELS, SCORES),
    "regression": (VALUES, FOUND),
}


def expected(task: str, name: str, targets: np.ndarray, outputs: np.ndarray) -> float:
    """Return the value that scikit-learn gives."""
    predicted = outputs.argmax(axis=1) if task == "classes" else (outputs > 0.5).astype(int)
    match name:
        case "accuracy":
            return np.mean(predicted == targets)
        case "balanced_accuracy":
            return sklearn_metrics.balanced_accuracy_score(targets, predicted)
        case "macro_f1":
            return sklearn_metrics.f1_score(targets, predicted, average="macro")
        case "auc":
            return sklearn_metrics.roc_auc_score(targets, outputs, multi_class="ovr", average="macro")
        case "average_precision":
            return sklearn_metrics.average_precision_score(targets, outputs)
        case "top_5_accuracy":
            best = np.argsort(-outputs, axis=1, kind="stable")[:, :5]
            return np.mean((best == targets[:, None]).any(axis=1))
        case "log_loss" if task == "labels":
            columns = zip(targets.T, outputs.T, strict=True)
            return np.mean([sklearn_metrics.log_loss(*pair) for pair in columns])
        case "log_loss":
            return sklearn_metrics.log_loss(targets, outputs)
        case "mae":
            return sklearn_metrics.mean_absolute_error(targets, outputs)
        case "rmse":
            return sklearn_metrics.mean_squared_error(targets, outputs) ** 0.5
    return sklearn_metrics.r2_score(targets, outputs)


@pytest.mark.parametrize(("task", "name"), [(task, name) for task in GIVEN for name in names_of(task)])
def test_metric_equals_that_of_scikit_learn(task, name):
    targets, outputs = GIVEN[task]
    assert METRICS[name](targets, outputs) == pytest.approx(expected(task, name, targets, outputs), rel=1e-9)


@pytest.mark.parametrize(
    ("name", "targets", "outputs", "value"),
    [
        # A class without examples has no curve of its own, and one class alone is no better than chance.
        ("auc", np.array([0, 1, 0, 1]), np.array([[0.6, 0.4, 0]] * 2 + [[0.7, 0.3, 0]] * 2), 0.5),
        ("auc", np.zeros(3, np.int64), np.array([0.1, 0.2, 0.9]), 0.5),
        ("average_precision", np.zeros(3, np.int64), np.array([0.1, 0.2, 0.9]), 0.5),
        ("macro_f1", np.zeros((3, 2), np.uint8), np.zeros((3, 2)), 0.0),
        ("log_loss", np.array([0, 1]), np.array([1.0, 0.0]), -np.log(np.finfo(float).eps)),
        ("r2", np.ones((3, 1)), np.ones((3, 1)), 1.0),
        ("r2", np.ones((3, 1)), np.zeros((3, 1)), 0.0),
        ("balanced_accuracy", np.array([0, 0, 2]), np.eye(3)[[0, 1, 2]], 0.75),
    ],
)
def test_metric_of_odd_data_is_finite(name, targets, outputs, value):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert METRICS[name](targets, outputs) == pytest.approx(value)


@pytest.mark.parametrize(("right", "count"), [(100, 100), (0, 100), (0, 10), (7, 20), (5560, 6000)])
def test_interval_of_a_share_is_wilsons_and_stays_within_bounds(right, count):
    exact = binomtest(right, count).proportion_ci(0.95, method="wilson")
    low, high = wilson(right / count, count)
    assert 0.0 <= low < high <= 1.0
    assert wilson(right / count, count) == pytest.approx((exact.low, exact.high))


@pytest.mark.parametrize("task", GIVEN)
def test_intervals_hold_their_metrics_and_repeat(task):
    targets, outputs = GIVEN[task]
    rows = {name: (METRICS[name].rows(targets, outputs), METRICS[name].value) for name in names_of(task)}
    found = intervals(rows, resamples=200)
    assert list(found) == list(rows)
    for name, (low, high) in found.items():
        assert low < METRICS[name](targets, outputs) < high
    assert found == intervals(rows, resamples=200)
    wider = {name: (tuple(array[:50] for array in parts), value) for name, (parts, value) in rows.items()}
    for name, (low, high) in intervals(wider, resamples=200).items():
        assert high - low > found[name][1] - found[name][0]


@pytest.mark.parametrize("name", ["macro_f1", "auc", "average_precision", "balanced_accuracy"])
def test_interval_of_a_mean_over_classes_counts_a_rare_one_in_each_resample(name):
    rng = np.random.default_rng(0)
    if name == "balanced_accuracy":
        targets = np.r_[np.zeros(99, np.int64), [1]]
        outputs = np.full((100, 2), 0.5) + 0.4 * np.array([1, -1])
    else:
        # The frequent label is always right, the one that a third of the resamples lack never.
        targets = np.stack([np.arange(100) % 2, np.arange(100) == 99], axis=1).astype(np.uint8)
        outputs = np.stack([targets[:, 0] * 0.8 + 0.1 * rng.random(100), 0.4 - np.arange(100) / 1000], axis=1)
    metric = METRICS[name]
    rows = metric.rows(targets, outputs)
    values = interval_module.resampled({name: (rows, metric.value)})[name]
    assert len(values) == interval_module.RESAMPLES
    assert values.min() <= metric(targets, outputs) <= values.max() < 0.6


@pytest.mark.parametrize("mistakes", [0, 1, 2, 3])
@pytest.mark.parametrize("name", ["macro_f1", "balanced_accuracy", "auc"])
def test_metrics_of_nearly_perfect_tests_have_no_interval_but_shares_do(name, mistakes):
    targets = np.arange(72) % 2
    outputs = np.where(targets == 1, 0.9, 0.1)
    outputs[:mistakes] = 0.95 - outputs[:mistakes]
    rows = {one: (METRICS[one].rows(targets, outputs), METRICS[one].value) for one in ("accuracy", name)}
    found = intervals(rows)
    assert list(found) == ["accuracy"]
    assert found["accuracy"] == pytest.approx(wilson(1 - mistakes / 72, 72))


@pytest.mark.parametrize("name", ["macro_f1", "balanced_accuracy", "auc"])
def test_metrics_of_tests_with_several_mistakes_have_an_interval(name):
    targets = np.arange(72) % 2
    outputs = np.where(targets == 1, 0.9, 0.1) + np.linspace(0, 0.05, 72)
    outputs[:12] = 1 - outputs[:12]
    low, high = intervals({name: (METRICS[name].rows(targets, outputs), METRICS[name].value)})[name]
    assert 0.5 < low < METRICS[name](targets, outputs) < high < 1


def test_curves_are_short_and_of_the_most_frequent_classes():
    rng = np.random.default_rng(1)
    targets = np.concatenate([np.full(400 + 20 * label, label) for label in range(12)])
    outputs = rng.random((len(targets), 13))
    outputs[np.arange(len(targets)), targets] += 0.5
    found = curves([f"c{label}" for label in range(13)], outputs, positives(targets, outputs))
    for kind in ("roc", "precision_recall"):
        assert list(found[kind]) == [f"c{label}" for label in range(12 - MOST_CURVES, 12)]
        assert all(len(curve["x"]) == len(curve["y"]) <= MOST_POINTS for curve in found[kind].values())
    roc = found["roc"]["c11"]
    area = sklearn_metrics.roc_auc_score(targets == 11, outputs[:, 11])
    assert np.trapezoid(roc["y"], roc["x"]) == pytest.approx(area, abs=0.005)
    assert (roc["x"][0], roc["y"][0], roc["x"][-1], roc["y"][-1]) == (0, 0, 1, 1)
    recall = found["precision_recall"]["c11"]
    assert recall["x"][0] == 0
    assert recall["y"][-1] == pytest.approx(np.mean(targets == 11), abs=1e-6)


def test_large_tables_are_resampled_less_often(monkeypatch):
    calls = {"table": 0, "column": 0}

    def counted(name):
        def value(rows):
            calls[name] += 1
            return float(rows.mean())

        return value

    monkeypatch.setattr(interval_module, "WORK", 2_000)
    monkeypatch.setattr(interval_module, "FEWEST", 5)
    table, column = np.ones((20, 50)), np.arange(20.0)
    found = interval_module.resampled(
        {"table": ((table,), counted("table")), "column": ((column,), counted("column"))}, 60
    )
    assert calls == {"table": 5, "column": 60}
    assert found["table"].tolist() == [1.0] * 5
    assert len(found["column"]) == 60
