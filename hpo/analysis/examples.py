"""The test examples of final runs: their noun, and the uncertainty of figures that are measured on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hpo.analysis.figures import base_of
from hpo.analysis.statistics import mean
from objectives.tasks.intervals import wilson

SHARES = ("accuracy", "top_5_accuracy")
"""Metrics that are the share of examples which the model gets right, unless each example has several labels."""


def examples_of(run: Mapping[str, Any]) -> str:
    """Return the noun for the examples of a final run: `images`, or `examples` where its inputs are not images."""
    recorded = run.get("input")
    shape = recorded.get("shape") if isinstance(recorded, Mapping) else None
    shapes = list(shape.values()) if isinstance(shape, Mapping) else [shape]
    if shape is None or any(isinstance(one, list | tuple) and len(one) == 3 for one in shapes):
        return "images"
    return "examples"


def over_examples(
    runs: Sequence[Mapping[str, Any]], figure: str, centre: float
) -> tuple[float, float] | None:
    """Return the 95 % interval of a figure over the test examples, its mean over seeds; None if it is unknown."""
    recorded = [(run.get("test_intervals") or {}).get(figure) for run in runs]
    # Earlier versions recorded equal ends too, which are no interval.
    if all(one and one[0] < one[1] for one in recorded):
        low, high = (mean([float(one[side]) for one in recorded if one]) for side in (0, 1))
        return low, high
    count = runs[0].get("n_test") if runs else None
    is_share = base_of(figure) in SHARES and runs[0].get("task") != "labels"
    return wilson(centre, count) if is_share and count and 0.0 <= centre <= 1.0 else None
