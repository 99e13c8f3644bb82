"""`hpo report` compares the result with the objective's default configuration."""

from __future__ import annotations

import json

import pytest
from optuna.distributions import FloatDistribution

from hpo.search.spec import space_to_json
from hpo.study.history import read_history
from objectives.spaces.choices import categorical
from tests.integration.report.made import candidates, files, report_text, trained
from tests.integration.rows import StudyRows, add_retrain

# One worker of the suite imports the libraries that draw charts.
pytestmark = [pytest.mark.usefixtures("complete_documents"), pytest.mark.xdist_group("report")]

DEFAULT = {"learning_rate": 0.05}


def test_result_is_compared_with_the_default_configuration(rows: StudyRows) -> None:
    spec = read_history(rows.database, rows.name).study.spec_json
    default = {"learning_rate": 0.05}
    rows.set(spec={**spec, "first": [default]})
    trained(rows, 0.8, 0.9)
    assert "default configuration was not tried" in report_text(files(rows))
    trained(rows, 0.7, 0.85, params=default)
    markdown = report_text(files(rows))
    assert (
        "In the search, trial 0 reached val_accuracy 0.9000 and the objective's default configuration"
        in markdown
    )
    assert "(trial 1) 0.8500: 5.0 points better on validation data. With one run each" in markdown
    assert "--top K" in markdown
    # Retrains of both are compared over seeds.
    add_retrain(rows, [0.80, 0.81, 0.82], params=default)
    add_retrain(rows, [0.90, 0.91, 0.92])
    markdown = report_text(files(rows))
    assert (
        "test accuracy 0.9100 instead of 0.8100, 10.0 points better (95 % interval 7.7 to 12.3 points"
        in markdown
    )
    assert "exceeds seed noise" in markdown


@pytest.fixture
def with_default(rows: StudyRows) -> StudyRows:
    """Return a study whose default configuration was tried and is not the best."""
    spec = read_history(rows.database, rows.name).study.spec_json
    rows.set(spec={**spec, "first": [DEFAULT]})
    trained(rows, 0.8, 0.9)
    trained(rows, 0.7, 0.85, params=DEFAULT)
    return rows


def test_default_is_compared_even_if_it_was_retrained_last(with_default: StudyRows) -> None:
    add_retrain(with_default, [0.90, 0.91, 0.92])
    add_retrain(with_default, [0.80, 0.81, 0.82], params=DEFAULT)
    assert "test accuracy 0.9100 instead of 0.8100, 10.0 points better" in report_text(files(with_default))


def test_retrain_chosen_by_the_search_takes_precedence(with_default: StudyRows) -> None:
    add_retrain(with_default, [0.90, 0.91, 0.92], source="search")
    add_retrain(with_default, [0.97, 0.98, 0.99], source="file", config={"trial": None})
    add_retrain(with_default, [0.80, 0.81, 0.82], params=DEFAULT, source="trial", config={"trial": 1})
    found = files(with_default)
    markdown = report_text(found)
    assert (
        "**Test accuracy 0.9100 ± 0.0100 (95 % interval 0.8852 to 0.9348 over 3 seeds, 0.7114 to 0.9765 over 20 test"
        " images): trial 0" in markdown
    )
    assert "| learning_rate | 0.01 | 0.05 |" in markdown
    assert "| a configuration from a file | 2 of all data | test accuracy 0.9800 ± 0.0100" in markdown
    assert "| trial 1 | 2 of all data | test accuracy 0.8100 ± 0.0100" in markdown
    assert (
        "of these 3 retrains, this report shows the latest of the configuration that the search chose, not the best"
        in markdown
    )
    assert json.loads(found["report.json"])["retrained"]["trial"] == 0


def test_last_retrain_counts_if_the_search_chose_none(with_default: StudyRows) -> None:
    add_retrain(with_default, [0.8, 0.9], source="trial", config={"trial": 1})
    add_retrain(with_default, [0.7, 0.8], source="file", config={"trial": None})
    assert "**Test accuracy 0.7500 ± 0.0707" in report_text(files(with_default))


def test_equal_seeds_do_not_estimate_seed_noise(with_default: StudyRows) -> None:
    add_retrain(with_default, [0.8, 0.8, 0.8], params=DEFAULT, config={"trial": 1}, source="trial")
    add_retrain(with_default, [1.0, 1.0, 1.0])
    markdown = report_text(files(with_default))
    assert "20.0 points better; there are too few distinct values to estimate seed noise." in markdown
    assert "within seed noise" not in markdown
    assert (
        "**Test accuracy 1.0000 ± 0.0000 (3 seeds, all equal; 95 % interval 0.8389 to 1.0000 over 20 test images):"
        " trial 0, retrained.**" in markdown
    )


@pytest.mark.parametrize("other", [{"epochs": 3}, {"data": {"limit": 100}}, {"objective": "mine.py:Mine"}])
def test_retrains_with_different_setups_are_not_compared(with_default: StudyRows, other: dict) -> None:
    add_retrain(with_default, [0.50, 0.51, 0.52], params=DEFAULT, config=other)
    add_retrain(with_default, [0.90, 0.91, 0.92])
    markdown = report_text(files(with_default))
    assert "retrained with a different setup" in markdown
    assert "seed noise" not in markdown


def test_default_that_led_the_search_loses_over_fresh_seeds(with_default: StudyRows) -> None:
    trained(with_default, 0.9, 0.95, params=DEFAULT)
    selection = candidates(
        (DEFAULT, [0.80, 0.81, 0.82], False), ({"learning_rate": 0.01}, [0.9, 0.91, 0.92], True)
    )
    add_retrain(with_default, [0.90, 0.91, 0.92], selection=selection)
    markdown = report_text(files(with_default))
    assert "0.9100 instead of 0.8100, 10.0 points better" in markdown
    assert "No trial was better" not in markdown


def test_default_that_wins_over_fresh_seeds_is_reported(with_default: StudyRows) -> None:
    selection = candidates(
        ({"learning_rate": 0.01}, [0.80, 0.81, 0.82], False), (DEFAULT, [0.9, 0.91, 0.92], True)
    )
    add_retrain(with_default, [0.90, 0.91, 0.92], params=DEFAULT, selection=selection)
    markdown = report_text(files(with_default))
    assert "is the objective's default configuration, the best of 2 candidates" in markdown
    assert "With one run each" not in markdown


def test_default_that_was_tried_twice_is_not_better_than_itself(with_default: StudyRows) -> None:
    trained(with_default, 0.9, 0.95, params=DEFAULT)
    assert "No trial was better than the objective's default" in report_text(files(with_default))


@pytest.mark.parametrize(("default", "same"), [(1, True), (True, False), (1.0, True)])
def test_default_is_recognized_by_type(rows: StudyRows, default: object, same: bool) -> None:
    space = {"c": categorical([1, True]), "x": FloatDistribution(0.0, 1.0)}
    spec = read_history(rows.database, rows.name).study.spec_json
    first = [{"c": default, "x": 1}]
    rows.set(
        spec={**spec, "space": space_to_json(space), "objective_space": space_to_json(space), "first": first}
    )
    trained(rows, 0.5, params={"c": 1, "x": 1.0})
    assert ("was not tried in this study" in report_text(files(rows))) is not same
