"""The gap from validation to test, and the gain over the default configuration from fresh seeds."""

from __future__ import annotations

import pytest

from objectives.data_options import DataOptions
from storage.engine import Database
from tests.integration.report.made import candidates
from tests.integration.report.task_rows import (
    DEFAULT,
    REGRESSED,
    REGRESSION,
    complete,
    document_text,
    retrained,
    study,
)

pytestmark = [pytest.mark.usefixtures("complete_documents"), pytest.mark.xdist_group("report")]


def test_gap_is_between_the_trial_and_the_test_set_in_one_metric(database: Database) -> None:
    rows = study(database, "val_accuracy")
    complete(rows, {"val_accuracy": 0.95, "val_loss": 0.2}, "val_accuracy")
    retrained(rows, {"test_loss": [0.3, 0.4], "test_accuracy": [0.90, 0.92]}, {})
    text = document_text(rows)
    assert "**Test accuracy 0.9100 ± 0.0141 (95 % interval 0.7829 to 1.0000 over 2 seeds, 0.8622 to" in text
    assert (
        "On 1,359 validation images, its accuracy was 0.9500 (trial 0, a single run that was chosen in the search; 95 %"
        " interval over these images 0.9371 to 0.9604): 4.0 points better than on the test set." in text
    )


def test_gap_of_a_candidate_is_that_of_its_fresh_seeds(database: Database) -> None:
    rows = study(database, "val_loss", "minimize")
    complete(rows, {"val_loss": 0.1}, "val_loss")
    selection = {
        **candidates(({"learning_rate": 0.01}, [0.2, 0.22, 0.24], True), (DEFAULT, [0.3, 0.32, 0.34], False)),
        "metric": "val_loss",
    }
    retrained(rows, {"test_loss": [0.3, 0.3]}, {"n_valid": 77}, selection=selection)
    text = document_text(rows)
    assert "**Test loss 0.3000 ± 0.0000 (2 seeds, all equal): trial 0, retrained.**" in text
    assert (
        "On 77 validation images, its loss was 0.2200 (mean of 3 fresh seeds): 0.0800 better than on the test set."
        in text
    )
    assert (
        "val_loss on validation data 0.2200 instead of 0.3200, 0.1000 better (95 % interval 0.0547 to" in text
    )
    assert "trial 1: 0.3200 ± 0.0200 (in the search 0.9000) (the default configuration)" in text
    assert "significantly better than each of the others" in text


def test_loss_of_a_regression_in_folds_is_accompanied_by_errors(database: Database) -> None:
    rows = study(database, "val_loss", "minimize", data=DataOptions(folds=5))
    complete(rows, {"val_loss": 5.0}, "val_loss")
    retrained(rows, REGRESSED, {**REGRESSION, "n_valid": 300})
    text = document_text(rows)
    assert "In the unit of the targets: test RMSE 2.5500 ± 3.4648 and test MAE 1.5500 ± 0.0707." in text
    assert "On 300 examples in 5 folds, its loss was 5.0000 (trial 0, a single run" in text


def test_gap_between_different_metrics_is_reported_as_unknown(database: Database) -> None:
    rows = study(database, "val_kappa")
    complete(rows, {"val_kappa": 0.8}, "val_kappa")
    retrained(rows, {"test_accuracy": [0.9]}, {})
    text = document_text(rows)
    assert "**Test accuracy 0.9000 (1 seed; 95 % interval 0.8506 to 0.9343 over 200 test images)" in text
    assert (
        "The search chose by val_kappa on 1,359 validation images, which is another metric than the test"
        in text
    )


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.90, 0.91, 0.92], "the two are indistinguishable at 95 %"),
        ([0.70, 0.71, 0.72], "the difference exceeds seed noise"),
        # p = 0.04, which would not be below 0.05 if it were corrected for the third candidate.
        ([0.8855, 0.8955, 0.9055], "the difference exceeds seed noise"),
    ],
)
def test_gain_over_the_default_is_that_of_fresh_seeds(
    database: Database, values: list, expected: str
) -> None:
    rows = study(database, "val_accuracy")
    complete(rows, {"val_accuracy": 0.99}, "val_accuracy")
    complete(rows, {"val_accuracy": 0.5}, "val_accuracy", params=DEFAULT)
    selection = candidates(
        ({"learning_rate": 0.01}, [0.91, 0.92, 0.93], True),
        (DEFAULT, values, False),
        ({"learning_rate": 0.02}, [0.90, 0.92, 0.93], False),
    )
    retrained(rows, {"test_accuracy": [0.9, 0.91]}, {}, selection=selection)
    text = document_text(rows)
    assert expected in text
    assert "trial 2 (Welch's test over seeds)" in text
    assert "49.0 points" not in text
    assert ("Indistinguishable from the chosen one at 95 %: trial 1" in text) == ("indist" in expected)


def test_candidates_that_were_dropped_are_listed_and_not_tested(database: Database) -> None:
    rows = study(database, "val_accuracy")
    complete(rows, {"val_accuracy": 0.99}, "val_accuracy")
    selection = candidates(
        ({"learning_rate": 0.01}, [0.91, 0.92, 0.93], True),
        (DEFAULT, [0.71, 0.72, 0.74], False),
        ({"learning_rate": 0.02}, [0.70, 0.69], False),
    )
    selection["candidates"][2]["dropped"] = {"seeds": 2, "probability": 0.0004}
    retrained(rows, {"test_accuracy": [0.9, 0.91]}, {}, selection=selection)
    text = document_text(rows)
    assert "3 candidates were trained from up to 3 fresh seeds each and compared by val_accuracy" in text
    assert "dropped after 2 of 3 seeds, because its chance to win was below 0.1 %" in text
    assert "significantly better than each of the others that were not dropped at 95 %" in text


def test_no_gain_in_the_search_is_reported_once_candidates_competed(database: Database) -> None:
    rows = study(database, "val_accuracy")
    complete(rows, {"val_accuracy": 0.99}, "val_accuracy")
    complete(rows, {"val_accuracy": 0.5}, "val_accuracy", params=DEFAULT)
    selection = candidates(
        ({"learning_rate": 0.01}, [0.9, 0.92], True), ({"learning_rate": 0.02}, [0.8, 0.9], False)
    )
    retrained(rows, {"test_accuracy": [0.9, 0.91]}, {}, selection=selection)
    text = document_text(rows)
    assert "was not among the candidates, so there is no gain from fresh seeds: hpo retrain" in text
    assert "49.0 points" not in text


def test_default_that_won_without_a_complete_trial_is_named(database: Database) -> None:
    rows = study(database, "val_accuracy")
    complete(rows, {"val_accuracy": 0.99}, "val_accuracy")
    selection = {
        **candidates(({"learning_rate": 0.01}, [0.7, 0.7], False), (DEFAULT, [0.9, 0.9], True)),
        "top": 1,
    }
    selection["candidates"][1] |= {"trial": None, "search_value": None}
    config = {"trial": None, "study": "demo"}
    retrained(rows, {"test_accuracy": [0.9]}, {}, selection=selection, params=DEFAULT, config=config)
    text = document_text(rows)
    assert "images): the objective's default configuration, retrained.**" in text
    assert "default configuration: 0.9000 ± 0.0000, chosen" in text
    assert "its accuracy was 0.9000 (mean of 2 fresh seeds" in text
    assert "hpo retrain --study demo --seeds 1 --top 1 --epochs" not in text
    assert "--config best_config.yaml" not in text
