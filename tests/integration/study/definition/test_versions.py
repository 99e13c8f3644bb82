"""Code and data that changed since a study began: reported by a launch, refused by workers and next to agents."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from optuna.distributions import FloatDistribution
from sqlalchemy import text

from hpo.errors import StudyConflictError, UsageError
from hpo.options.images import ImageOptions
from hpo.process.identity import process_identity
from hpo.study.definition.identity import check_worker, check_worker_images
from hpo.study.definition.launched_study import find
from objectives.data_options import DataOptions
from storage.engine import Database
from tests.integration.study.definition.launches import CHANGED, DESCRIPTION, IMAGES, begin, launch


def begin_on_images(database: Database, digest: str, process: str = "boot:1:1") -> None:
    study = launch(database, IMAGES, digest, images=ImageOptions(data=Path("/photos")))
    begin(database, study, process=process)
    query = text(
        "UPDATE hpo.agents SET versions = versions || jsonb_build_object('data_digest', CAST(:d AS text))"
    )
    database.transaction(lambda c: c.execute(query, {"d": digest}))


def leave(database: Database) -> None:
    database.transaction(lambda c: c.execute(text("UPDATE hpo.agents SET ended_at = clock_timestamp()")))


def test_launch_reports_changed_code_and_continues(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    begin(database, launch(database))
    leave(database)
    with caplog.at_level(logging.WARNING):
        assert launch(database).spec.code == "c0de1"
        assert not caplog.messages
        assert launch(database, {"code": "c0de2"}).spec.code == "c0de2"
    assert "code has changed since trial 2 (c0de1 -> c0de2)" in caplog.messages[0]
    assert len(caplog.messages) == 1, "no trial was interrupted after an epoch"


@pytest.mark.parametrize(
    ("choice", "line"),
    [
        (
            None,
            "trial 2, begun with other code, resumes from what that code has saved: to begin again from epoch 1,",
        ),
        ("keep", "trial 2, begun with other code, resumes from what that code has saved"),
        ("restart", "trial 2, begun with other code, begins again from epoch 1"),
    ],
)
def test_launch_reports_trials_that_other_code_has_begun(
    database: Database, caplog: pytest.LogCaptureFixture, choice: str | None, line: str
) -> None:
    begin(database, launch(database))
    leave(database)
    ended = "UPDATE hpo.attempts SET epochs = 1, ended_at = clock_timestamp(), outcome = 'released'"
    database.transaction(lambda c: c.execute(text(ended)))
    with caplog.at_level(logging.INFO):
        launch(database, {"code": "c0de2"}, code=choice)
        assert line in caplog.messages[1]
        caplog.clear()
        launch(database, {"code": "c0de2"}, code=choice)
        assert line in caplog.messages[0], "until the trial has ended"
        caplog.clear()
        database.transaction(lambda c: c.execute(text("UPDATE hpo.trials SET outcome = 'complete'")))
        launch(database, {"code": "c0de2"}, code=choice)
    assert caplog.messages == []


def test_launch_refuses_other_code_than_a_living_agent_trains(database: Database) -> None:
    study = launch(database)
    begin(database, study, process=process_identity())
    launch(database)
    with pytest.raises(
        StudyConflictError, match=r"differs .* 1 agent of study 's' train: here \(process 1\)"
    ):
        launch(database, {"code": "c0de2"})
    assert launch(database, {"code": "c0de2"}, code="keep").spec.code == "c0de2", "the user trains with both"
    launch(database, code="keep")
    dead = process_identity().rpartition(":")[0] + ":1"
    database.transaction(lambda c: c.execute(text("UPDATE hpo.agents SET process = :p"), {"p": dead}))
    assert launch(database, {"code": "c0de2"}).spec.code == "c0de2", "its process has ended"


def test_launch_reports_changed_images_and_continues(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    begin_on_images(database, "aa")
    leave(database)
    with caplog.at_level(logging.WARNING):
        assert launch(database, IMAGES, "aa").spec.data.digest == "aa"
        assert not caplog.messages
        moved = launch(database, IMAGES, "bb", images=ImageOptions(data=Path("/moved"))).spec.data
    assert (moved.source, moved.digest) == ("/moved", "bb")
    assert "content of the study's data has changed since trial 2 (aa -> bb)" in caplog.messages[0]


def test_launch_refuses_other_images_than_a_living_agent_trains_on(database: Database) -> None:
    begin_on_images(database, "aa", process_identity())
    launch(database, IMAGES, "aa")
    with pytest.raises(StudyConflictError, match=r"content of the study's data differs .* 1 agent"):
        launch(database, IMAGES, "bb")


def test_worker_refuses_other_images(database: Database) -> None:
    begin_on_images(database, "aa")
    found = find(database, "s")
    assert found is not None
    check_worker_images("s", found.spec, "aa")
    with pytest.raises(StudyConflictError, match=r"digest: was aa, is bb\): copy those to this host"):
        check_worker_images("s", found.spec, "bb")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image_size": 8}, "no --image-size, not 8"),
        ({"image_fit": "pad"}, "--image-fit crop, not pad"),
        ({"test_fraction": 0.5}, "no --test-fraction, not 0.5"),
    ],
)
def test_rules_of_images_stay_in_a_study_that_has_begun(
    database: Database, options: dict[str, Any], message: str
) -> None:
    begin_on_images(database, "aa")
    with pytest.raises(StudyConflictError, match=message):
        launch(database, IMAGES, "aa", images=ImageOptions(**options))


def test_rules_of_images_may_change_before_a_study_has_begun(database: Database) -> None:
    launch(database, IMAGES, "aa", images=ImageOptions(data=Path("/photos"), image_size=8))
    spec = launch(database, IMAGES, "bb", images=ImageOptions(test_fraction=0.5, skip_unreadable=True)).spec
    assert spec.data == DataOptions(
        source="/photos", image_size=8, test_fraction=0.5, skip_unreadable=True, digest="bb"
    )
    found = find(database, "s")
    assert found is not None
    assert found.spec.data == spec.data


@pytest.mark.parametrize(
    ("changes", "options", "message"),
    [
        (
            {},
            {"data": Path("/photos")},
            "does not apply to objective q, which has its own data: leave it out",
        ),
        (IMAGES, {}, "objective q has no data set: give images or arrays with --data"),
        ({}, {"image_size": 8}, "--image-size applies to data of your own: give them with --data"),
        ({}, {"skip_unreadable": True}, "--skip-unreadable applies"),
    ],
)
def test_options_of_images_that_do_not_apply_are_refused(
    database: Database, changes: dict[str, Any], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        launch(database, changes, images=ImageOptions(**options))
    assert find(database, "s") is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        *((CHANGED[change], change) for change in CHANGED),
        ({"space": {"x": FloatDistribution(100.0, 200.0)}}, "another search space"),
        ({"code": "c0de2"}, "code: was c0de1, is c0de2"),
    ],
)
def test_worker_refuses_another_version(database: Database, changes: Mapping[str, Any], message: str) -> None:
    spec = launch(database).spec
    check_worker("s", spec, DESCRIPTION)
    check_worker("s", replace(spec, code="", objective_epochs=None), replace(DESCRIPTION, code="new"))
    with pytest.raises(
        StudyConflictError, match=f"differs from the version .*{message}.*: copy that version"
    ):
        check_worker(
            "s", spec, replace(DESCRIPTION, **changes), code=None if changes.keys() == {"code"} else "keep"
        )


def test_worker_joins_with_other_code_by_the_option(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    spec = launch(database).spec
    with caplog.at_level(logging.WARNING):
        check_worker("s", spec, replace(DESCRIPTION, code="c0de2"), code="restart")
    assert "code differs from that of the study (c0de1 -> c0de2)" in caplog.messages[0]
