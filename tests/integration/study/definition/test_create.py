"""Creation of a study, and simultaneous launches that change it."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from sqlalchemy import text

from hpo.errors import StudyConflictError, UsageError
from hpo.options.launch_request import LaunchRequest
from hpo.search.pruners import freeze_thaw_of
from hpo.search.spec import StudySpec
from hpo.study.definition.create import create_or_continue
from hpo.study.definition.launched_study import LaunchedStudy, find
from hpo.study.definition.requested_spec import new_spec
from objectives.description import Description
from storage import agents
from storage.claiming import claims
from storage.engine import Database
from tests.integration.study.definition.launches import launch

SPACE = {"x": FloatDistribution(0.0, 5.0), "kind": CategoricalDistribution(["a", "b"])}
DESCRIPTION = Description(
    name="q", metric="loss", direction="minimize", epochs=4, space=SPACE, first=[{"x": 1.0, "kind": "a"}]
)
REQUEST = LaunchRequest(study="s", trials=10)


def enrolled(database: Database, existing: LaunchedStudy | None = None, **options: object) -> LaunchedStudy:
    request = replace(REQUEST, **options)  # type: ignore[arg-type]
    return create_or_continue(database, request, "q", DESCRIPTION, existing)


def test_simultaneous_launches_keep_each_others_changes(database: Database) -> None:
    enrolled(database)
    # One launch reads the study and imports its objective slowly; another launch is faster.
    outdated = find(database, "s")
    enrolled(database, find(database, "s"), max_failed=77, trials=20)
    late = enrolled(database, outdated, max_lost=5, trials=None)
    assert (late.spec.max_failed, late.spec.max_lost, late.budget) == (77, 5, 20)
    stored = find(database, "s")
    assert stored is not None
    assert stored.spec == late.spec


def test_conflict_with_a_study_started_meanwhile_is_refused(database: Database) -> None:
    enrolled(database)
    outdated = find(database, "s")
    begin(database, outdated)
    with pytest.raises(StudyConflictError, match="created with --epochs 4, not 9"):
        enrolled(database, find(database, "s"), epochs=9)
    # The study had no trial when this launch read it.
    enrolled(database, find(database, "s"), max_failed=3)
    with pytest.raises(StudyConflictError, match="created with --epochs 4, not 9"):
        enrolled(database, outdated, epochs=9)


def test_study_keeps_the_rungs_of_freeze_thaw_that_it_began_with(database: Database) -> None:
    begun = enrolled(database, pruner="freeze-thaw")
    assert (begun.spec.rungs, begun.spec.curve_model) == (((1, 1), (2, 1), (3, 1)), True)
    assert begun.spec.sampler == "curves"
    assert enrolled(database, find(database, "s"), max_failed=3).spec.rungs == begun.spec.rungs
    stored = replace(begun.spec, rungs=((1, 2), (3, 4)), curve_model=False)
    rule = freeze_thaw_of(stored)
    assert rule is not None
    assert (rule.rungs, rule.quota(1, 9), rule.quota(3, 9)) == ((1, 3), 4, 2)
    assert StudySpec.from_json(json.loads(json.dumps(stored.to_json()))).rungs == stored.rungs


def test_raised_epochs_pause_complete_trials_and_restart_their_schedule(database: Database) -> None:
    able = replace(DESCRIPTION, takes_restarts=True)

    def launched(description: Description = able, **options: object) -> LaunchedStudy:
        request = replace(REQUEST, **options)  # type: ignore[arg-type]
        return create_or_continue(database, request, "q", description, find(database, "s"))

    study = launched(pruner="freeze-thaw")
    assert launched(epochs=9).spec.restarts == (), "no trial has begun"
    study_id = study.study_id
    columns = "study_id, ordinal, seed, outcome, epochs, value, paused_epoch, paused_score, decided_at"
    ends = "('complete', 9, 0.5, NULL, NULL), ('complete', 9, 0.25, NULL, NULL), ('complete', 3, 0.1, NULL, NULL)"
    paused = "('pruned', 9, 0.4, 3, 0.4), (NULL, 4, NULL, 4, 0.6)"
    given = f"SELECT {study_id}, 0, 0, o, e, v, p, s, now() FROM (VALUES {ends}, {paused}) AS ended (o, e, v, p, s)"
    database.transaction(lambda c: c.execute(text(f"INSERT INTO hpo.trials ({columns}) {given}")))

    with pytest.raises(
        StudyConflictError, match="--epochs 9, not 12, and its trials cannot go on, because its obj"
    ):
        launched(DESCRIPTION, epochs=12)
    with pytest.raises(StudyConflictError, match="was created with --epochs 9, not 8"):
        launched(epochs=8)
    agent = database.transaction(lambda c: agents.new_agent_id(c))
    join = (agent, study_id, "here", 1, "elsewhere:1:1", 1, {})
    database.transaction(lambda c: agents.join(c, *join))
    with pytest.raises(
        StudyConflictError, match=r"while agents \(1\) train trials of 9 epochs: stop study 's'"
    ):
        launched(epochs=12)
    database.transaction(lambda c: agents.leave(c, agent))

    for _ in range(2):
        spec = launched(epochs=12).spec
        assert (spec.epochs, spec.restarts, spec.rungs) == (12, (9,), ((3, 3), (9, 3)))
        assert (spec.curve_model, spec.sampler, spec.earlier_samplers) == (False, "tpe", (("curves", 5),))
    assert StudySpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec
    rows = "SELECT outcome, paused_epoch, paused_score, value FROM hpo.trials ORDER BY reservation_id"
    assert [tuple(row) for row in database.transaction(lambda c: c.execute(text(rows)).all())] == [
        (None, 9, 0.5, None),
        (None, 9, 0.25, None),
        ("complete", None, None, 0.1),
        # The model has left it behind for good, and this one goes on to the next rung.
        ("pruned", None, None, 0.4),
        (None, None, None, None),
    ]
    scores = "SELECT epoch, score FROM hpo.rungs ORDER BY score"
    assert [tuple(row) for row in database.transaction(lambda c: c.execute(text(scores)).all())] == [
        (9, 0.25),
        (9, 0.5),
    ]
    # An agent that was away, or that joins with what it had read before, trains nothing of the former length.
    claim = (study_id, agent, "here", 0, "cpu:0", 60.0)
    with pytest.raises(StudyConflictError, match="have 12 epochs now, not 9, because --epochs was raised"):
        database.transaction(lambda c: claims.claim(c, *claim, epochs=9))
    assert launched(epochs=20).spec.restarts == (9, 12)


def test_raised_epochs_are_refused_where_trials_end_for_good(database: Database) -> None:
    begin(database, enrolled(database, pruner="median"))
    with pytest.raises(StudyConflictError, match="--pruner median ends trials for good"):
        enrolled(database, find(database, "s"), epochs=9)


def test_dead_agents_do_not_fix_the_epochs_of_an_unstarted_study(database: Database) -> None:
    begin(database, enrolled(database))
    age = "UPDATE hpo.agents SET seen_at = clock_timestamp() - interval '1 hour'"
    database.transaction(lambda c: c.execute(text(age)))
    again = enrolled(database, find(database, "s"), epochs=9, sampler="random")
    assert (again.spec.epochs, again.spec.sampler) == (9, "random")


def test_default_outside_a_narrowed_space_keeps_its_other_parameters(database: Database) -> None:
    assert list(enrolled(database, params=("kind=b",)).spec.first) == [{"x": 1.0}]


LIMITS = {"target": 0.5, "patience": 7, "trial_timeout_seconds": 60.0, "checkpoint_quota_bytes": 10**6}


def test_budget_without_a_trial_to_repeat_is_refused(database: Database) -> None:
    refused = (
        "--repeats 5 are the last of all trials, and --trials 5 leaves none to repeat: use --trials 6 or more"
    )
    with pytest.raises(UsageError, match=refused):
        launch(database, trials=5, repeats=5)
    assert find(database, "s") is None
    launch(database, trials=6, repeats=5)
    with pytest.raises(UsageError, match=refused):
        launch(database, trials=5)
    assert launch(database).budget == 6


def test_limits_and_goals_of_a_study_are_kept_changed_and_removed(database: Database) -> None:
    def stored() -> dict[str, object]:
        found = find(database, "s")
        assert found is not None
        return {name: getattr(found.spec, name) for name in LIMITS}

    enrolled(database, **LIMITS)
    # Before its first trial a study may get other options.
    enrolled(database, find(database, "s"), epochs=9)
    assert stored() == LIMITS
    begin(database, find(database, "s"))
    enrolled(database, find(database, "s"), target=0.0, patience="none")
    assert stored() == LIMITS | {"target": 0.0, "patience": None}
    enrolled(database, find(database, "s"), **dict.fromkeys(LIMITS, "none"))
    assert stored() == dict.fromkeys(LIMITS)


def begin(database: Database, study: LaunchedStudy | None) -> None:
    """Let an agent join the study, as before its first trial."""
    assert study is not None
    agent = database.transaction(agents.new_agent_id)
    database.transaction(lambda c: agents.join(c, agent, study.study_id, "here", 1, "boot:1:1", 1, {}))


FINITE = {"kind": CategoricalDistribution(["a", "b"]), "n": IntDistribution(1, 3)}


@pytest.mark.parametrize(
    ("options", "sampler", "line"),
    [
        (
            {"trials": 10},
            "grid",
            "the space has 6 configurations, fewer than the 10 trials: each is trained once, in an order that --seed"
            " shuffles",
        ),
        ({"trials": 6}, "grid", "6 configurations: each is trained once, in an order that --seed shuffles"),
        ({"trials": 5}, "tpe", ""),
        (
            {"trials": 10, "sampler": "tpe"},
            "tpe",
            "6 configurations, fewer than the 10 trials: each is trained once",
        ),
        ({"trials": 3, "params": ("kind=a",)}, "grid", "the space has 3 configurations"),
        (
            {"trials": 1, "params": ("kind=a", "n=2")},
            "grid",
            "the space has 1 configuration: it is trained once",
        ),
    ],
)
def test_space_that_is_not_larger_than_the_budget_is_enumerated(
    database: Database, caplog: pytest.LogCaptureFixture, options: Any, sampler: str, line: str
) -> None:
    description = replace(DESCRIPTION, space=FINITE, first=[])
    with caplog.at_level("INFO"):
        study = create_or_continue(database, LaunchRequest(study="s", **options), "q", description, None)
    assert study.spec.sampler == sampler
    assert [line in message for message in caplog.messages] == [True] * bool(line)


@pytest.mark.parametrize(
    ("declared", "options", "chosen"),
    [
        ({}, {}, ("curves", "freeze-thaw")),
        ({}, {"trials": 300}, ("curves", "freeze-thaw")),
        ({}, {"epochs": 3}, ("tpe", "median")),
        ({}, {"epochs": 1, "trials": 100}, ("tpe", "asha")),
        ({}, {"pruner": "median"}, ("tpe", "median")),
        ({}, {"sampler": "tpe"}, ("tpe", "median")),
        ({}, {"sampler": "tpe", "pruner": "freeze-thaw"}, ("tpe", "freeze-thaw")),
        ({}, {"constraint": ("parameters<=1000",)}, ("tpe", "median")),
        ({}, {"also_minimize": "parameters"}, ("tpe", "none")),
        ({"takes_restarts": False}, {}, ("tpe", "median")),
        ({"space": FINITE}, {}, ("grid", "median")),
        ({"space": FINITE}, {"trials": 4}, ("curves", "freeze-thaw")),
        ({"space": {}}, {}, ("grid", "median")),
        ({"space": {}, "open_space": True, "epochs": None}, {}, ("tpe", "median")),
    ],
)
def test_trials_pause_by_default_where_a_model_compares_their_curves(
    declared: Any, options: Any, chosen: tuple[str, str]
) -> None:
    description = replace(DESCRIPTION, **{"takes_restarts": True, "first": []} | declared)
    spec = new_spec(replace(REQUEST, **options), "q", description)
    assert (spec.sampler, spec.pruner) == chosen
    assert spec.curve_model == (chosen[1] == "freeze-thaw")


def test_search_that_starts_from_earlier_studies_keeps_a_sampler_that_learns() -> None:
    description = replace(DESCRIPTION, space=FINITE, first=[])
    request = replace(REQUEST, learn_from="earlier")
    assert new_spec(request, "q", description).sampler == "tpe"
    assert new_spec(replace(request, learn_from="none"), "q", description).sampler == "grid"


def test_configurations_that_a_narrowing_makes_equal_are_tried_once() -> None:
    description = replace(
        DESCRIPTION, first=[{"x": 1.0, "kind": "a"}, {"x": 2.0, "kind": "a"}, {"x": 2.0, "kind": "a"}]
    )

    def first(*params: str) -> list[Any]:
        return list(new_spec(replace(REQUEST, params=params), "q", description).first)

    assert first("kind=a") == [dict(params) for params in description.first]
    assert first("x=3") == [{"kind": "a"}]
