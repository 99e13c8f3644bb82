"""The uncertainty of figures over the test examples of final runs."""

from __future__ import annotations

import pytest

from hpo.analysis.examples import over_examples


@pytest.mark.parametrize(
    ("recorded", "expected"),
    [
        ([[0.5, 0.9], [0.7, 1.0]], (0.6, 0.95)),
        ([[1.0, 1.0], [1.0, 1.0]], None),
        ([[0.5, 0.9], [1.0, 1.0]], None),
        ([[0.5, 0.9], None], None),
    ],
)
def test_interval_is_the_mean_over_seeds_that_all_have_one(
    recorded: list[list[float] | None], expected: tuple[float, float] | None
) -> None:
    runs = [{"n_test": 8, "test_intervals": {"test_auc": pair}} for pair in recorded]
    found = over_examples(runs, "test_auc", 0.9)
    assert found == (expected if expected is None else pytest.approx(expected))
