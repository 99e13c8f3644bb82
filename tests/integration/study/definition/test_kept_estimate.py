"""The estimate of `hpo plan`, stored by a launch with the same options."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hpo.study.changes.copy_study import copy_study
from hpo.study.definition.create import planned_spec
from hpo.study.definition.kept_estimate import adopt, keep
from hpo.study.definition.launched_study import LaunchedStudy, find
from hpo.study.estimates import Estimate, estimate_of
from storage.engine import Database
from tests.integration.study.definition.test_create import DESCRIPTION, REQUEST, begin, enrolled

ESTIMATE = Estimate(
    slots=2,
    trials=10,
    epochs=4,
    load_seconds=3.0,
    start_seconds=1.0,
    epoch_seconds=2.0,
    measured_epochs=6,
    trial_seconds=9.0,
    least_epochs=20,
    most_epochs=40,
    least_seconds=25.0,
    most_seconds=45.0,
    trial_bytes=100,
    shared_bytes=1000,
    free_bytes=5000,
    checkpoint_bytes=10,
)


def plan(database: Database, home: Path) -> None:
    # A finite space may have fewer configurations than the budget has trials.
    estimate = replace(ESTIMATE, trials=2)
    keep(home, "s", planned_spec(database, REQUEST, "q", DESCRIPTION, None), 10, estimate)


def launched(database: Database, home: Path, **options: Any) -> LaunchedStudy:
    return adopt(database, enrolled(database, find(database, "s"), **options), home)


def stored(database: Database, name: str = "s") -> Estimate | None:
    found = find(database, name)
    assert found is not None
    return estimate_of(found.spec_json)


def test_launch_with_the_planned_options_stores_the_estimate_and_later_ones_keep_it(
    database: Database, tmp_path: Path
) -> None:
    plan(database, tmp_path)
    assert find(database, "s") is None
    study = launched(database, tmp_path)
    assert stored(database) == replace(ESTIMATE, trials=2)
    assert study.spec_json == find(database, "s").spec_json  # type: ignore[union-attr]
    assert list((tmp_path / "plans").iterdir()) == []
    begin(database, study)
    launched(database, tmp_path, trials=20, max_failed=3)
    assert stored(database) == replace(ESTIMATE, trials=2)
    copy_study(database, "s", "t")
    assert stored(database, "t") is None


@pytest.mark.parametrize(
    "option", [{"epochs": 9}, {"pruner": "none"}, {"trials": 11}, {"params": ("x=1..2",)}]
)
def test_launch_with_other_options_stores_no_estimate(
    database: Database, tmp_path: Path, option: dict[str, Any]
) -> None:
    plan(database, tmp_path)
    launched(database, tmp_path, **option)
    assert stored(database) is None


def test_study_that_has_begun_stores_no_estimate(database: Database, tmp_path: Path) -> None:
    begin(database, enrolled(database))
    plan(database, tmp_path)
    launched(database, tmp_path)
    assert stored(database) is None


@pytest.mark.parametrize("content", ["", "{", "[]", '{"spec": {}, "estimate": {}}'])
def test_kept_file_that_is_damaged_is_ignored(database: Database, tmp_path: Path, content: str) -> None:
    plan(database, tmp_path)
    (path,) = (tmp_path / "plans").iterdir()
    path.write_text(content)
    launched(database, tmp_path)
    assert stored(database) is None
