"""A study is made once, and what launches of the same moment ask of it is all kept."""

from __future__ import annotations

from dataclasses import replace

import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution
from sqlalchemy import text

from hpo.errors import StudyConflictError
from hpo.options import LaunchRequest
from hpo.study.create import Enrolled, enroll, find
from objectives.base import Description
from storage import leases
from storage.engine import Database

SPACE = {"x": FloatDistribution(0.0, 5.0), "kind": CategoricalDistribution(["a", "b"])}
DESCRIPTION = Description("q", "loss", "minimize", 4, SPACE, [{"x": 1.0, "kind": "a"}])
REQUEST = LaunchRequest(study="s", trials=10)


def enrolled(database: Database, existing: Enrolled | None = None, **asked: object) -> Enrolled:
    request = replace(REQUEST, **asked)  # type: ignore[arg-type]
    return enroll(database, request, "q", DESCRIPTION, existing)


def test_what_another_launch_has_stored_meanwhile_is_kept(database: Database) -> None:
    enrolled(database)
    # One launch looks, and imports its objective for a while; another is quicker.
    looked = find(database, "s")
    enrolled(database, find(database, "s"), max_failed=77, trials=20)
    late = enrolled(database, looked, max_lost=5, trials=None)
    assert (late.spec.max_failed, late.spec.max_lost, late.budget) == (77, 5, 20)
    stored = find(database, "s")
    assert stored is not None
    assert stored.spec == late.spec


def test_what_no_longer_fits_is_refused_all_the_same(database: Database) -> None:
    enrolled(database)
    looked = find(database, "s")
    begin(database, looked)
    with pytest.raises(StudyConflictError, match="began with --epochs 4, not 9"):
        enrolled(database, find(database, "s"), epochs=9)
    # It had not begun when this one looked.
    enrolled(database, find(database, "s"), max_failed=3)
    with pytest.raises(StudyConflictError, match="began with --epochs 4, not 9"):
        enrolled(database, looked, epochs=9)


def test_a_launch_that_was_killed_before_its_first_trial_binds_nobody(database: Database) -> None:
    begin(database, enrolled(database))
    dead = "UPDATE hpo.agents SET seen_at = clock_timestamp() - interval '1 hour'"
    database.transaction(lambda c: c.execute(text(dead)))
    again = enrolled(database, find(database, "s"), epochs=9, sampler="random")
    assert (again.spec.epochs, again.spec.sampler) == (9, "random")


def test_narrowed_the_rest_of_the_known_good_one_is_tried(database: Database) -> None:
    assert list(enrolled(database, params=("kind=b",)).spec.first) == [{"x": 1.0}]


def begin(database: Database, study: Enrolled | None) -> None:
    """An agent joins, about to begin a trial."""
    assert study is not None
    agent = database.transaction(leases.new_agent_id)
    database.transaction(lambda c: leases.join(c, agent, study.study_id, "here", 1, "boot:1:1", 1, {}))
