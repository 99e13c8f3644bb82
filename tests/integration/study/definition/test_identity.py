"""A study is continued with the objective that it began with, and with its own study in Optuna's tables."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.distributions import FloatDistribution
from sqlalchemy import text

from hpo.errors import StudyConflictError, UsageError
from hpo.options.images import ImageOptions
from hpo.options.requests import LaunchRequest
from hpo.process.identity import process_identity
from hpo.report.study_report import report_files
from hpo.study.definition.create import create_or_continue
from hpo.study.definition.identity import check_worker, check_worker_images
from hpo.study.definition.launched_study import LaunchedStudy, find
from hpo.study.history import read_history
from objectives.data_options import DataOptions
from objectives.description import Description
from storage import agents
from storage.engine import Database

SPACE = {"x": FloatDistribution(0.0, 5.0)}
DESCRIPTION = Description(name="q", metric="loss", direction="minimize", epochs=4, space=SPACE, code="c0de1")
CHANGED = {
    "metric: was loss, is score": {"metric": "score"},
    "direction: was minimize, is maximize": {"direction": "maximize"},
    "epochs: was 4, is 7": {"epochs": 7},
    "value: was last, is best": {"value": "best"},
    "search space: was declared, is asked for in training": {"open_space": True},
}


IMAGES = {"takes_images": True}
"""Change of an objective without a data set."""


def launch(
    database: Database, changes: Mapping[str, Any] | None = None, digest: str = "", **options: Any
) -> LaunchedStudy:
    request = LaunchRequest(study="s", **options)
    description = replace(DESCRIPTION, **(changes or {}))
    return create_or_continue(database, request, "q", description, find(database, "s"), digest)


def begin(database: Database, study: LaunchedStudy, code: str = "c0de1", process: str = "boot:1:1") -> None:
    """Let an agent train a trial."""

    def write(c: Any) -> None:
        agent = agents.new_agent_id(c)
        agents.join(c, agent, study.study_id, "here", 1, process, 1, {"objective": code})
        c.execute(
            text(
                "WITH t AS (INSERT INTO hpo.trials (study_id, ordinal, number, seed) VALUES (:s, :a, 2, 0)"
                " RETURNING reservation_id) INSERT INTO hpo.attempts"
                " (reservation_id, agent_id, slot, device, host, pid, lease_until)"
                " SELECT reservation_id, :a, 0, 'cpu', 'here', 1, clock_timestamp() FROM t"
            ),
            {"s": study.study_id, "a": agent},
        )

    database.transaction(write)


def begin_on_images(database: Database, digest: str, process: str = "boot:1:1") -> None:
    study = launch(database, IMAGES, digest, images=ImageOptions(data=Path("/photos")))
    begin(database, study, process=process)
    query = text(
        "UPDATE hpo.agents SET versions = versions || jsonb_build_object('data_digest', CAST(:d AS text))"
    )
    database.transaction(lambda c: c.execute(query, {"d": digest}))


def leave(database: Database) -> None:
    database.transaction(lambda c: c.execute(text("UPDATE hpo.agents SET ended_at = clock_timestamp()")))


def optuna_study(database: Database, **options: Any) -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna.create_study(study_name="s", storage=database.optuna, **options)


@pytest.mark.parametrize("change", CHANGED)
def test_launch_refuses_a_changed_declaration_of_a_study_that_has_begun(
    database: Database, change: str
) -> None:
    begin(database, launch(database))
    with pytest.raises(StudyConflictError, match=change):
        launch(database, CHANGED[change])
    found = find(database, "s")
    assert found is not None
    assert (found.spec.metric, found.spec.direction, found.spec.epochs) == ("loss", "minimize", 4)


@pytest.mark.parametrize("change", CHANGED)
def test_study_that_has_not_begun_follows_its_objective(database: Database, change: str) -> None:
    launch(database, params=("x=1..2",))
    spec = launch(database, CHANGED[change]).spec
    assert {name: getattr(spec, name) for name in CHANGED[change]} == CHANGED[change]
    narrowed = {} if spec.open_space else {"x": FloatDistribution(1.0, 2.0)}
    assert spec.space == narrowed, "the narrowed space is kept, unless none is declared any more"
    directions = optuna.load_study(study_name="s", storage=database.optuna).directions
    assert [direction.name.lower() for direction in directions] == [spec.direction]


def test_direction_of_a_class_with_an_open_space_is_checked_and_that_of_a_function_is_the_study_s(
    database: Database,
) -> None:
    is_open = {"open_space": True, "epochs": None, "space": {}}
    begin(database, launch(database, is_open))
    assert launch(
        database, {**is_open, "declares_direction": False, "direction": "maximize"}
    ).spec.direction == ("minimize")
    with pytest.raises(StudyConflictError, match="direction: was minimize, is maximize"):
        launch(database, {**is_open, "direction": "maximize"})
    with pytest.raises(UsageError, match="--direction maximize: the objective declares"):
        launch(database, is_open, direction="maximize")


def test_narrowed_space_of_a_study_that_has_not_begun_is_not_dropped(database: Database) -> None:
    launch(database, params=("x=1..2",))
    with pytest.raises(StudyConflictError, match="search space has changed"):
        launch(database, {"space": {"x": FloatDistribution(0.0, 9.0)}})


def test_changed_epochs_are_settled_by_the_option(database: Database) -> None:
    begin(database, launch(database))
    assert launch(database, {"epochs": 7}, epochs=4).spec.epochs == 4
    assert launch(database, {"epochs": 7}).spec.epochs == 4, "it was settled"


def test_changed_value_is_settled_by_the_option(database: Database) -> None:
    begin(database, launch(database))
    assert launch(database, {"value": "best"}, value="last").spec.value == "last"
    assert launch(database, {"value": "best"}).spec.value == "last", "it was settled"
    with pytest.raises(StudyConflictError, match="was created with --value last, not best"):
        launch(database, {"value": "best"}, value="best")


def test_value_of_the_class_does_not_matter_next_to_the_option(database: Database) -> None:
    begin(database, launch(database, value="best"))
    assert launch(database).spec.value == "best"


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


def test_value_does_not_apply_to_a_function_that_returns_it(database: Database) -> None:
    function = {"open_space": True, "epochs": None, "space": {}, "declares_direction": False}
    with pytest.raises(UsageError, match="--value does not apply to an Optuna objective"):
        launch(database, function, value="best")


def test_folds_stay_in_a_study_that_has_begun(database: Database) -> None:
    begin(database, launch(database, {"takes_folds": True}, folds=5))
    assert launch(database, {"takes_folds": True}).spec.data.folds == 5
    with pytest.raises(StudyConflictError, match="was created with --folds 5, not 3"):
        launch(database, {"takes_folds": True}, folds=3)


@pytest.mark.parametrize("declared", [{}, {"open_space": True, "epochs": None, "space": {}}])
def test_folds_do_not_apply_to_an_objective_with_code_of_its_own(
    database: Database, declared: Mapping[str, Any]
) -> None:
    with pytest.raises(UsageError, match=r"--folds does not apply to .*leave it out"):
        launch(database, declared, folds=5)


def test_epochs_of_the_class_do_not_matter_next_to_the_option(database: Database) -> None:
    begin(database, launch(database, epochs=9))
    assert launch(database, {"epochs": 7}).spec.epochs == 9


def test_sampler_may_change_in_a_study_that_has_begun(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    begin(database, launch(database, sampler="tpe"))
    with caplog.at_level(logging.INFO):
        spec = launch(database, sampler="random").spec
    assert "random proposes the trials from now on instead of tpe" in caplog.messages[0]
    assert (spec.sampler, spec.earlier_samplers) == ("random", (("tpe", 1),))
    assert launch(database).spec == spec
    markdown = report_files(read_history(database, "s"))["report.md"].decode()
    assert "tpe for the first 1 trial, then random" in markdown


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


def test_worker_joins_with_other_code_if_the_user_says_so(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    spec = launch(database).spec
    with caplog.at_level(logging.WARNING):
        check_worker("s", spec, replace(DESCRIPTION, code="c0de2"), code="restart")
    assert "code differs from that of the study (c0de1 -> c0de2)" in caplog.messages[0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"direction": "maximize"}, "has the direction maximize in Optuna's tables"),
        ({"directions": ["minimize", "maximize"]}, r"has 2 objectives \(minimize, maximize\)"),
    ],
)
def test_study_of_plain_optuna_with_other_directions_is_refused(
    database: Database, options: Mapping[str, Any], message: str
) -> None:
    made = optuna_study(database, **options)
    with pytest.raises(StudyConflictError, match=f"{message}.*choose another name"):
        launch(database)
    assert find(database, "s") is None
    assert len(optuna.load_study(study_name="s", storage=database.optuna).directions) == len(made.directions)


def test_empty_study_of_plain_optuna_is_adopted(database: Database) -> None:
    made = optuna_study(database, direction="minimize")
    assert launch(database).study_id == made._study_id


def test_refused_launch_leaves_no_study_behind(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise StudyConflictError("refused")

    with monkeypatch.context() as patch:
        patch.setattr("storage.studies.insert", refuse)
        with pytest.raises(StudyConflictError):
            launch(database)
    assert optuna.get_all_study_names(database.optuna) == []
    assert launch(database).spec.metric == "loss"


def test_created_study_is_as_optuna_would_create_it(database: Database) -> None:
    launch(database, {"direction": "maximize"})
    study = optuna.load_study(study_name="s", storage=database.optuna)
    assert (study.direction.name, study.user_attrs, study.trials) == ("MAXIMIZE", {}, [])


def test_study_deleted_with_plain_optuna_is_refused_with_a_way_out(database: Database) -> None:
    launch(database)
    optuna.delete_study(study_name="s", storage=database.optuna)
    with pytest.raises(StudyConflictError, match=r"deleted with plain Optuna.*hpo delete --study s"):
        find(database, "s")
    optuna_study(database)
    with pytest.raises(StudyConflictError, match="deleted with plain Optuna"):
        find(database, "s")


def test_study_renamed_with_plain_optuna_keeps_its_own_name(database: Database) -> None:
    study = launch(database)
    database.transaction(lambda c: c.execute(text("UPDATE public.studies SET study_name = 't'")))
    assert launch(database).study_id == study.study_id
    with pytest.raises(StudyConflictError, match="is study 's', renamed with plain Optuna: use --study s"):
        create_or_continue(database, LaunchRequest(study="t"), "q", DESCRIPTION, None)


def test_study_that_holds_only_enqueued_trials_may_be_launched(database: Database) -> None:
    study = optuna.create_study(study_name="s", storage=database.optuna)
    study.enqueue_trial({"x": 0.25})
    assert launch(database).spec.direction == "minimize"
    study.add_trial(optuna.trial.create_trial(value=0.0))
    optuna.create_study(study_name="t", storage=database.optuna).add_trials(study.trials[1:])
    with pytest.raises(StudyConflictError, match="has trials"):
        create_or_continue(database, LaunchRequest(study="t"), "q", DESCRIPTION, None)
