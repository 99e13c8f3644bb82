"""The metric that `--metric` selects: kept with its direction, and refused where trials do not report it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from hpo.errors import StudyConflictError, UsageError
from hpo.study.definition.identity import check_worker
from hpo.study.definition.launched_study import find
from storage.engine import Database
from tests.integration.study.definition.launches import DESCRIPTION, begin, launch

OFFERED = {"metrics": {"val_auc": "maximize", "val_log_loss": "minimize"}}
"""Change of an objective that reports metrics of its task."""


def test_metric_of_the_option_is_kept_with_its_direction(database: Database) -> None:
    """A change of the class' own metric does not matter next to it, but the loss of the selected one does."""
    study = launch(database, OFFERED, metric="val_auc")
    assert (study.spec.metric, study.spec.direction) == ("val_auc", "maximize")
    begin(database, study)
    for changes in ({}, {"metric": "score", "direction": "maximize"}):
        study = launch(database, OFFERED | changes)
        assert (study.spec.metric, study.spec.direction) == ("val_auc", "maximize")
        check_worker("s", study.spec, replace(DESCRIPTION, **OFFERED | changes))
    for other in ("loss", "val_log_loss"):
        with pytest.raises(StudyConflictError, match=f"was created with --metric val_auc, not {other}"):
            launch(database, OFFERED, metric=other)
    with pytest.raises(StudyConflictError, match="metric: was val_auc, is loss"):
        launch(database)


def test_changed_metric_is_settled_by_the_option(database: Database) -> None:
    begin(database, launch(database))
    changed = {"metric": "score", "metrics": {"loss": "minimize"}}
    with pytest.raises(StudyConflictError, match="metric: was loss, is score"):
        launch(database, changed)
    assert launch(database, changed, metric="loss").spec.metric == "loss"
    assert launch(database, changed).spec.direction == "minimize"


def test_metric_of_a_study_that_has_not_begun_may_change(database: Database) -> None:
    launch(database, OFFERED, metric="val_log_loss")
    assert launch(database, OFFERED, trials=20).spec.metric == "val_log_loss"
    changed = launch(database, OFFERED, metric="val_auc").spec
    assert (changed.metric, changed.direction, changed.objective_metric) == ("val_auc", "maximize", "loss")
    assert launch(database, OFFERED, metric="loss").spec.direction == "minimize"


@pytest.mark.parametrize(
    ("changes", "metric", "message"),
    [
        (OFFERED, "auc", "--metric auc does not apply to objective q: did you mean val_auc?"),
        (OFFERED, "val_los", "did you mean val_log_loss"),
        (OFFERED, "xyz", ": use one of loss, val_auc, val_log_loss"),
        (
            {},
            "val_auc",
            "which reports loss by code of its own: leave it out, or set the metric in the objective",
        ),
    ],
)
def test_metric_that_trials_do_not_report_is_refused_before_a_study_is_created(
    database: Database, changes: Mapping[str, Any], metric: str, message: str
) -> None:
    with pytest.raises(UsageError, match=re.escape(message)):
        launch(database, changes, metric=metric)
    assert find(database, "s") is None


def test_selected_metric_decides_on_the_direction_that_may_be_given(database: Database) -> None:
    with pytest.raises(UsageError, match=r"--direction minimize.* to maximize val_auc"):
        launch(database, OFFERED, metric="val_auc", direction="minimize")
    launch(database, OFFERED, metric="val_auc", direction="maximize")
    assert launch(database, OFFERED, direction="maximize").spec.metric == "val_auc"
