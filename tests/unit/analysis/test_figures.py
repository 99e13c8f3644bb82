"""Names, directions and bounds of the metrics that reports know."""

from __future__ import annotations

import math

import pytest

from hpo.analysis.figures import (
    bounds_of,
    counterpart,
    interval_of,
    is_better_high,
    is_measure,
    label_of,
    leading,
    short_label,
)
from hpo.analysis.statistics import Bounds, summarize, welch

UNBOUNDED_ABOVE = (0.0, math.inf)


@pytest.mark.parametrize(
    ("figure", "label", "short", "bounds", "high"),
    [
        ("test_accuracy", "test accuracy", "accuracy", (0.0, 1.0), True),
        ("test_macro_f1", "test macro F1", "macro F1", (0.0, 1.0), True),
        (
            "test_loss_flip_averaged",
            "test loss, mean of each image and its mirror image",
            "loss, flip-averaged",
            UNBOUNDED_ABOVE,
            False,
        ),
        ("test_calibration_error", "expected calibration error", "calibration error", (0.0, 1.0), False),
        ("test_rmse", "test RMSE", "RMSE", UNBOUNDED_ABOVE, False),
        ("test_r2", "test R²", "R²", (-math.inf, 1.0), True),
        ("final_val_auc", "val_auc", "AUC", (0.0, 1.0), True),
        ("test_own_accuracy", "test_own_accuracy", "own accuracy", (0.0, 1.0), True),
        ("test_huber_loss", "test_huber_loss", "huber loss", UNBOUNDED_ABOVE, False),
        ("test_kappa", "test_kappa", "kappa", None, None),
    ],
)
def test_figure_has_label_bounds_and_direction_of_its_metric(
    figure: str, label: str, short: str, bounds: Bounds | None, high: bool | None
) -> None:
    assert (label_of(figure), short_label(figure)) == (label, short)
    assert (bounds_of(figure), is_better_high(figure)) == (bounds, high)


@pytest.mark.parametrize(
    ("values", "name", "expected"),
    [
        ((0.9, 1.0), "test_auc", (0.3147, 1.0)),
        ((0.0, 0.1), "test_mae", (0.0, 0.6853)),
        ((0.9, 1.0), "val_r2", (0.3147, 1.0)),
        ((0.9, 1.0), "test_kappa", (0.3147, 1.5853)),
        # An accuracy in percent lies outside of the bounds, which cannot be its own.
        ((90.0, 100.0), "test_accuracy", (31.469, 158.531)),
    ],
)
def test_interval_stays_within_the_bounds_of_its_metric(
    values: tuple[float, float], name: str, expected: tuple[float, float]
) -> None:
    assert summarize(values, bounds_of(name)).interval95 == pytest.approx(expected, abs=1e-3)
    # Intervals that earlier versions have stored are cut when they are read.
    assert interval_of({name: summarize(values).to_json()}, name).interval95 == pytest.approx(
        expected, abs=1e-3
    )


def test_interval_of_a_difference_stays_within_what_two_values_can_differ() -> None:
    found = welch([0.5, 1.0], [0.0, 0.5], (0.0, 1.0))
    assert found.interval95 == (pytest.approx(-1.0), 1.0)


@pytest.mark.parametrize(
    ("names", "metric", "expected"),
    [
        (["test_loss", "test_accuracy", "test_macro_f1"], "val_macro_f1", "test_macro_f1"),
        (["test_loss", "test_accuracy"], "val_kappa", "test_accuracy"),
        (["test_kappa", "final_loss"], "loss", "test_kappa"),
        (["final_other", "final_score"], "score", "final_score"),
        ([], "score", None),
    ],
)
def test_headline_is_the_metric_of_the_study_on_the_test_set(
    names: list[str], metric: str, expected: str | None
) -> None:
    assert leading(dict.fromkeys(names), metric) == expected


def test_only_known_metrics_measure_a_configuration() -> None:
    names = ("val_loss", "rmse", "own_accuracy", "learning_rate", "images_per_second")
    assert [is_measure(name) for name in names] == [True, True, True, False, False]
    assert counterpart("val_loss") == "test_loss"
