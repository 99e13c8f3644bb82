"""Goals of a study against a real PostgreSQL."""

from __future__ import annotations

import pytest
from sqlalchemy import text

from hpo.outcomes import Outcome
from hpo.study.definition.goal_text import goal_text
from storage import attempts, budget, goals, leases
from storage.claiming.claims import NoWork
from storage.engine import Database
from tests.integration.storage.study_driver import StudyDriver


def study_with(database: Database, **spec: object) -> StudyDriver:
    study = StudyDriver(database, trials=50)
    set_spec(study, **{"direction": '"minimize"', **spec})
    return study


def set_spec(study: StudyDriver, **spec: object) -> None:
    for key, value in spec.items():
        study.database.transaction(
            lambda c, k=key, v=value: c.execute(
                text(
                    "UPDATE hpo.studies SET spec = (CAST(spec AS jsonb) || jsonb_build_object(:k, CAST(:v AS jsonb)))"
                    " WHERE study_id = :s"
                ),
                {"k": k, "v": v, "s": study.study_id},
            )
        )


def finish(study: StudyDriver, *ends: float | Outcome) -> None:
    for end in ends:
        claim = study.claimed()
        value, outcome = (None, end) if isinstance(end, Outcome) else (end, Outcome.COMPLETE)
        study.do(leases.settle, claim.attempt_id, outcome, value)


@pytest.mark.parametrize(
    ("spec", "ends", "more", "reached"),
    [
        ({"target": "0.1"}, [0.5, Outcome.PRUNED, 0.2], 0.1, "--target 0.1 reached in trial"),
        ({"target": "0.9", "direction": '"maximize"'}, [0.5, 0.89], 0.95, "--target 0.9 reached in trial"),
        (
            {"patience": "3"},
            # Neither an equal value nor a pruned or failed trial is an improvement; a failed one does not count.
            [0.5, 0.4, 0.4, Outcome.PRUNED, Outcome.BUG],
            0.6,
            "--patience 3: 3 trials without a new best one, so no further trial starts",
        ),
        (
            {"patience": "1"},
            [Outcome.DIVERGED, Outcome.OUT_OF_MEMORY, 0.5],
            Outcome.TIMED_OUT,
            "--patience 1: 1 ",
        ),
    ],
)
def test_no_trial_starts_once_a_goal_is_reached(database: Database, spec, ends, more, reached) -> None:
    study = study_with(database, **spec)
    finish(study, *ends)
    running = [study.claimed(slot) for slot in (1, 2)]
    waiting = study.claimed(3)
    finish(study, more)
    study.do(leases.release, waiting.attempt_id)
    # Trials that were begun finish; no other is reserved, by whichever agent.
    assert study.claimed(4, study.join(pid=2)).reservation_id == waiting.reservation_id
    assert study.claim(5) is NoWork.ELSEWHERE
    found = study.do(goals.read, study.study_id)
    assert found is not None
    assert goal_text(found).startswith(reached)
    for claim in running:
        study.do(leases.settle, claim.attempt_id, Outcome.BUG, None)
    assert study.claim(5) is NoWork.ELSEWHERE
    # The same command sets the budget again, and the goal ends the study again.
    study.do(budget.set_budget, study.study_id, 50)
    assert study.claim(5) is NoWork.ELSEWHERE
    assert study.count().left == 1


def test_goals_that_are_not_reached_show_progress(database: Database) -> None:
    study = study_with(database, target="0.1", patience="3")
    found = study.do(goals.read, study.study_id)
    assert found is not None
    assert goal_text(found) == (
        "--target 0.1 not reached (none is complete); --patience 3: 0 trials without a new best one"
    )
    finish(study, 0.5, 0.6)
    assert not isinstance(study.claim(), NoWork)


def test_no_trial_goes_on_once_all_epochs_are_trained(database: Database) -> None:
    study = study_with(database, max_epochs="5")
    first, second = study.claimed(0), study.claimed(1)
    study.do(attempts.record, first.attempt_id, [(epoch, {"loss": 0.5}, 0.1) for epoch in (1, 2, 3)])
    study.do(attempts.record, second.attempt_id, [(1, {"loss": 0.5}, 0.1)])
    third = study.claimed(2)
    study.do(attempts.record, second.attempt_id, [(2, {"loss": 0.5}, 0.1)])
    study.do(leases.release, second.attempt_id)
    assert study.claim(1) is NoWork.EPOCHS
    found = study.do(goals.read, study.study_id)
    assert found is not None
    assert goal_text(found) == "--max-epochs 5: 5 epochs trained in all, so no trial goes on"
    # The trials that were begun stay, and so does the budget: with more epochs they go on.
    assert (study.count().budget, study.count().waiting, study.count().running) == (50, 1, 2)
    set_spec(study, max_epochs="6")
    assert study.claimed(1).reservation_id == second.reservation_id
    for claim in (first, third):
        study.do(leases.settle, claim.attempt_id, Outcome.COMPLETE, 0.5)


def test_study_without_goals_has_none(database: Database) -> None:
    study = study_with(database)
    assert study.do(goals.read, study.study_id) is None
