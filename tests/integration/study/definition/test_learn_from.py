"""A new study starts from the results of earlier ones: of studies that the launch names, or of the same definition."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from optuna.distributions import FloatDistribution

import hpo
from hpo.errors import StudyConflictError, UnknownStudyError, UsageError
from hpo.options.images import ImageOptions
from hpo.options.launch_request import LaunchRequest
from hpo.report.reproduction_section import commands, reproduction_section
from hpo.search.starting.learned import LEAST
from hpo.search.starting.starting_points import starting_points
from hpo.study.backup.backup import read_backup, write_backup
from hpo.study.catalog import delete_study
from hpo.study.changes.copy_study import copy_study
from hpo.study.changes.rename import rename_study
from hpo.study.definition.create import create_or_continue
from hpo.study.definition.launched_study import LaunchedStudy, find
from hpo.study.history import read_history
from hpo.study.monitoring.status import study_status
from objectives.data_options import DataOptions
from storage.engine import Database
from tests.integration.rows import StudyRows
from tests.integration.study.definition.launches import DESCRIPTION, SPACE, begin
from tests.specs import spec


def launch(database: Database, study: str = "new", changes: Any = None, **options: Any) -> LaunchedStudy:
    request = LaunchRequest(study=study, **options)
    description = replace(DESCRIPTION, **(changes or {}))
    return create_or_continue(database, request, "q", description, find(database, study))


def earlier(
    database: Database, name: str, trials: int = LEAST, *, offset: float = 0.0, **options: Any
) -> StudyRows:
    """Insert a study of the objective of `launch`; its trials become better, and x larger from `offset` on."""
    options = {"objective": "q", "metric": "loss", "epochs": 4, "space": SPACE, **options}
    rows = StudyRows(database, name, budget=trials, spec=spec(**options))
    for number in range(trials):
        rows.trial("complete", 1.0 - number / 100, completed=4, params={"x": offset + number / 10})
    return rows


def names(study: LaunchedStudy) -> list[str]:
    return [one.study for one in study.spec.learned]


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    with caplog.at_level("INFO", "hpo"):
        yield caplog


def test_trials_are_ranked_by_how_far_they_came_and_by_value(database: Database) -> None:
    rows = StudyRows(database, "before", spec=spec(SPACE, objective="q", epochs=4))
    for place, outcome, value, completed in (
        (0, "complete", 0.5, 4),
        (1, "pruned", 0.1, 1),
        (2, "diverged", 0.0, 3),
        (3, "complete", 0.25, 4),
        (4, "pruned", 0.4, 2),
        (5, "complete", math.inf, 4),
        (6, "bug", None, 0),
        (7, None, None, 2),
        (8, "timed out", 0.3, 2),
    ):
        rows.trial(outcome, value, completed=completed, params={"x": float(place)})
    [found] = launch(database, learn_from="before").spec.learned
    assert [params["x"] for params in found.configurations[:5]] == [3.0, 0.0, 8.0, 4.0, 1.0]
    assert {params["x"] for params in found.configurations[5:]} == {2.0, 5.0}
    assert found.trials == 7


def test_named_studies_are_kept_when_they_are_gone(
    database: Database, storage_url: str, tmp_path: Any, log: pytest.LogCaptureFixture
) -> None:
    earlier(database, "one", 3, space={"x": FloatDistribution(0.0, 9.0)}, objective="other", metric="auc")
    earlier(database, "two", 2)
    study = launch(database, learn_from="one, two,one", seed=1, trials=20)
    assert names(study) == ["one", "two"]
    assert "the search starts from the results of one (3 trials) and two (2 trials)" in log.messages
    assert starting_points(study.spec) == [{"x": 0.2}, {"x": 0.1}]
    delete_study(database, "one")
    rename_study(database, "two", "three")
    begin(database, study)
    for learn_from in ("one,two", "two, one", None):
        assert launch(database, learn_from=learn_from, trials=30).spec.learned == study.spec.learned
    copy_study(database, "new", "copy")
    write_backup(database, "new", tmp_path / "new.gz")
    delete_study(database, "new", force=True)
    read_backup(database, tmp_path / "new.gz")
    for name in ("copy", "new"):
        found = find(database, name)
        assert found is not None
        assert found.spec.learned == study.spec.learned
        assert study_status(database, name).learned_from == {"one": 3, "two": 2}
    assert hpo.load_study("new", storage=storage_url).learned_from == {"one": 3, "two": 2}
    history = read_history(database, "new")
    assert "--learn-from one,two" in commands(history, None)[0]
    [section] = reproduction_section(history, None)
    assert "one (3 trials) and two (2 trials)" in str(section)


def test_studies_of_the_same_objective_and_data_are_found(
    database: Database, log: pytest.LogCaptureFixture
) -> None:
    for place in range(4):
        earlier(database, f"same-{place}")
    # A spec of an earlier version, and damaged ones.
    old = spec(objective="q", metric="loss", epochs=4, space=SPACE).to_json()
    earlier(database, "same-4").set(spec={**old, "data": {"data_dir": "/data"}})
    for number, damage in enumerate(({"data": [1], "metric": "f1"}, {"objective": None}, {"space": 3})):
        earlier(database, f"damaged-{number}").set(spec={**old, **damage})
    earlier(database, "same-5", epochs=5, value="best")
    earlier(database, "few", LEAST - 1)
    earlier(database, "far", space={"x": FloatDistribution(0.0, 99.0)}, offset=50)
    for name, options in {
        "objective": {"objective": "other"},
        "metric": {"metric": "auc"},
        "direction": {"direction": "maximize"},
        "data": {"data": replace(spec().data, limit=100)},
    }.items():
        earlier(database, f"other-{name}", **options)
    study = launch(database)
    assert names(study) == ["same-5", "same-4", "same-3", "same-2", "same-1"]
    [line] = [message for message in log.messages if "starts from" in message]
    assert line.endswith("; --learn-from none, or a --seed, starts without")
    assert launch(database).spec.learned == study.spec.learned
    assert launch(database, learn_from="none").spec.learned == ()
    for number, options in enumerate([{"learn_from": "none"}, {"seed": 0}, {"sampler": "random"}]):
        assert launch(database, f"without-{number}", **options).spec.learned == ()
        assert find(database, f"without-{number}").spec.seed == 0  # type: ignore[union-attr]
    # With the seed of the earlier studies it would draw their trials again.
    seeds = [launch(database, f"from-{n}", learn_from=f"same-{n}").spec.seed for n in (1, 2)]
    assert len({0, study.spec.seed, *seeds}) == 4
    assert launch(database, "seeded", learn_from="same-1", seed=7).spec.seed == 7


def test_same_data_may_lie_in_another_place(database: Database) -> None:
    earlier(database, "before", data=DataOptions(source="/there", digest="c0de"))
    images = ImageOptions(data=Path("/here"))
    for digest, found in {"c0de": ["before"], "beef": []}.items():
        request = LaunchRequest(study=digest, images=images)
        described = replace(DESCRIPTION, takes_images=True)
        assert names(create_or_continue(database, request, "q", described, None, digest)) == found


def test_objective_that_names_its_parameters_while_it_runs_learns_too(database: Database) -> None:
    script = {"open_space": True, "epochs": None, "space": {}, "declares_direction": False}
    earlier(database, "before", open_space=True, space={}, epochs=None)
    for study, options in (("found", {}), ("named", {"learn_from": "before", "seed": 1})):
        new = launch(database, study, script, **options)
        assert names(new) == ["before"]
        assert starting_points(new.spec)[0] == {"x": (LEAST - 1) / 10}


@pytest.mark.parametrize(
    ("option", "options", "reason"),
    [
        ("nowhere", {}, "no study 'nowhere'"),
        ("empty", {}, "--learn-from empty: none of its trials has finished: hpo status --study empty"),
        ("foreign", {}, "--learn-from foreign: it tunes f, which has no parameter of q: name a study with"),
        (
            "far",
            {},
            "--learn-from far: no value of its best configurations lies inside the space of q: name a",
        ),
        ("new", {}, "--learn-from new: a study learns from its own trials anyway"),
        (" , ", {}, "--learn-from is empty: name a study, or none"),
        ("a,b,c,d,e,f", {}, "--learn-from names 6 studies: name at most 5"),
        (
            "one",
            {"sampler": "qmc"},
            "--learn-from one: --sampler qmc learns from no trial: leave --learn-from",
        ),
    ],
)
def test_studies_that_cannot_be_used_are_refused(
    database: Database, option: str, options: Any, reason: str
) -> None:
    earlier(database, "empty", 0)
    earlier(database, "foreign", 2, objective="f", space={"y": FloatDistribution(0.0, 1.0)})
    earlier(database, "far", 2, space={"x": FloatDistribution(0.0, 99.0)}, offset=50)
    earlier(database, "one", 2)
    with pytest.raises((UsageError, UnknownStudyError), match=reason):
        launch(database, learn_from=option, **options)
    assert find(database, "new") is None


def test_begun_study_keeps_its_earlier_studies_or_drops_them(
    database: Database, log: pytest.LogCaptureFixture
) -> None:
    earlier(database, "one")
    earlier(database, "two")
    study = launch(database, learn_from="one")
    assert names(launch(database, learn_from="two")) == ["two"]
    begin(database, study)
    with pytest.raises(StudyConflictError, match="began with the results of two, not those of one: leave"):
        launch(database, learn_from="one")
    assert names(launch(database, learn_from="none")) == []
    assert log.messages[-1] == "the search goes on without the results of earlier studies"
    with pytest.raises(StudyConflictError, match="began with none, not those of one"):
        launch(database, learn_from="one")
