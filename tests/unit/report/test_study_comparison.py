"""Setups and figures of retrains, as reports compare and name them."""

from __future__ import annotations

from typing import Any

import pytest

from hpo.analysis.figures import label_of
from hpo.report.study_comparison import matches_search
from storage.retrains import RetrainRow


def retrained(**config: Any) -> RetrainRow:
    row: RetrainRow = object.__new__(RetrainRow)
    object.__setattr__(row, "config", config)
    return row


@pytest.mark.parametrize(
    ("config", "spec", "same"),
    [
        ({"epochs": 5, "data": {"limit": 10}}, {"epochs": 5, "data": {"limit": 10, "data_dir": "/d"}}, True),
        ({"epochs": 6}, {"epochs": 5}, False),
        ({"epochs": None}, {"epochs": 5, "open_space": True}, True),
    ],
)
def test_retrain_matches_search_of_same_epochs_and_images(
    config: dict[str, Any], spec: dict[str, Any], same: bool
) -> None:
    assert matches_search(retrained(**config), spec) is same


def test_figure_of_final_run_has_name_of_its_metric() -> None:
    assert (label_of("final_value"), label_of("test_accuracy")) == ("value", "test accuracy")
