"""Leases on PostgreSQL: fencing, renewal, expiry and the release of attempts of dead agents."""

from __future__ import annotations

import math

import pytest
from sqlalchemy import text

from storage import agents, attempts, leases
from storage.engine import Database
from tests.integration.storage.study_driver import LEASE, StudyDriver, reap_all

MAX_LOST = 3


@pytest.fixture
def study(database: Database) -> StudyDriver:
    return StudyDriver(database)


def reap(study: StudyDriver) -> int:
    return study.do(reap_all, study.study_id, MAX_LOST)


def test_agents_are_numbered(study: StudyDriver) -> None:
    def join(agent_id: int) -> int:
        return study.do(agents.join, agent_id, study.study_id, "here", 1, "boot:1:1", 2, {})

    joining = [study.do(agents.new_agent_id) for _ in range(2)]
    # The second time as after a commit whose answer was lost.
    assert [join(agent_id) for agent_id in (joining[0], joining[0], joining[1])] == [1, 1, 2]
    known = study.do(agents.agents_of_host, study.study_id, "here")
    assert [agent_id for agent_id, _, _ in known] == [study.agent_id, *joining]
    study.do(agents.leave, joining[1])
    known = study.do(agents.agents_of_host, study.study_id, "here")
    assert [agent_id for agent_id, _, _ in known] == [study.agent_id, joining[0]]


def test_only_expired_leases_are_reaped(study: StudyDriver) -> None:
    long, short = study.claimed(slot=0), study.claimed(slot=1, lease=0.0)
    assert reap(study) == 1
    assert study.attempt(long).outcome is None
    ended = study.attempt(short)
    assert (ended.outcome, ended.error) == ("lost", "its agent's lease expired")
    assert reap(study) == 0


def test_lease_renewed_after_the_check_is_not_reaped(study: StudyDriver) -> None:
    claim = study.claimed()
    study.expire(claim)
    seen = study.do(leases.suspects, study.study_id)
    assert set(seen) == {claim.attempt_id}
    study.do(leases.renew, study.agent_id, LEASE)
    assert study.do(leases.reap, seen, MAX_LOST) == 0


def test_lease_that_ends_too_far_ahead_is_suspect(study: StudyDriver) -> None:
    """The database's clock was set back."""
    claim = study.claimed()
    assert study.do(leases.suspects, study.study_id) == {}
    study.do(leases.renew, study.agent_id, 3600.0)
    assert set(study.do(leases.suspects, study.study_id)) == {claim.attempt_id}


def test_time_zone_of_the_host_has_no_effect(study: StudyDriver) -> None:
    """Two agents whose sessions are half a day apart agree on expired leases."""
    claim = study.claimed(lease=5.0)
    with study.database.engine.begin() as c:
        c.execute(text("SET LOCAL TIME ZONE 'Pacific/Kiritimati'"))
        assert reap_all(c, study.study_id, MAX_LOST) == 0
    study.expire(claim)
    with study.database.engine.begin() as c:
        c.execute(text("SET LOCAL TIME ZONE 'Pacific/Pago_Pago'"))
        assert reap_all(c, study.study_id, MAX_LOST) == 1


def test_trial_lost_too_often_fails(study: StudyDriver) -> None:
    reservation_ids = set()
    for lost in range(1, MAX_LOST + 1):
        claim = study.claimed()
        reservation_ids.add(claim.reservation_id)
        assert study.trial(claim).outcome is None
        for _ in range(2):
            study.do(leases.lose, claim.attempt_id, "ended by SIGKILL", MAX_LOST)
        assert study.trial(claim).lost == lost
    assert len(reservation_ids) == 1
    trial = study.trial(claim)
    assert trial.outcome == "lost"
    assert trial.error == "lost 3 times, the last time: ended by SIGKILL"
    assert study.count().failed == 1
    assert study.claimed().reservation_id not in reservation_ids


@pytest.mark.parametrize(
    ("kinds", "outcome"),
    [
        (["oom"] * 3, "oom"),
        (["hung"] * 3, "hung"),
        (["lost", "lost", "oom"], "lost"),
        (["oom", "oom", "lost"], "lost"),
    ],
)
def test_trial_fails_with_the_outcome_of_all_its_attempts(
    study: StudyDriver, kinds: list[str], outcome: str
) -> None:
    """Two machines that went away and one crash do not show that it needs too much memory."""
    for kind in kinds:
        claim = study.claimed()
        study.do(leases.lose, claim.attempt_id, "why", 3, kind)
    assert study.trial(claim).outcome == outcome


def test_epochs_trained_again_replace_those_of_an_earlier_attempt(study: StudyDriver) -> None:
    first = study.claimed()
    assert study.record(first, (1, 0.9), (2, 0.8), (3, 0.7)) == {
        1: {"loss": 0.9},
        2: {"loss": 0.8},
        3: {"loss": 0.7},
    }
    study.do(leases.release, first.attempt_id)
    second = study.claimed()
    study.do(attempts.begin, second.attempt_id, 42, 1)
    assert study.trial(second).epochs == 1
    # Its checkpoint is of another attempt, whose first epoch differed.
    assert study.record(second, (1, 0.5)) == {1: {"loss": 0.5}}
    assert study.record(second, (2, 0.7), (3, 0.6)) == {2: {"loss": 0.7}, 3: {"loss": 0.6}}
    assert study.record(second) == {}
    assert study.trial(second).epochs == 3
    assert (study.attempt(second).resumed_from, study.attempt(second).epochs) == (1, 2)
    # Repeated after a lost answer, it changes nothing.
    assert study.record(second, (3, 0.5)) == {3: {"loss": 0.6}}


def test_non_finite_metrics_are_preserved(study: StudyDriver) -> None:
    stored = study.record(study.claimed(), (1, math.nan), (2, math.inf), (3, -math.inf))
    assert math.isnan(stored[1]["loss"])
    assert [stored[2]["loss"], stored[3]["loss"]] == [math.inf, -math.inf]


def test_dead_agent_of_this_host_is_reaped_at_once(study: StudyDriver) -> None:
    dead = study.join(pid=7, process="boot:7:1.00")
    elsewhere = study.join(host="there", pid=7)
    held, other = study.claimed(agent=dead), study.claimed(agent=elsewhere)
    here = study.do(agents.agents_of_host, study.study_id, "here")
    assert (dead, 7, "boot:7:1.00") in here
    assert elsewhere not in [agent_id for agent_id, _, _ in here]
    assert study.do(agents.reap_agent, dead, MAX_LOST) == 1
    assert study.attempt(held).error == "its agent was killed"
    assert study.attempt(other).outcome is None
    assert dead not in [row[0] for row in study.do(agents.agents_of_host, study.study_id, "here")]


def test_stored_log_never_shrinks(study: StudyDriver) -> None:
    """A later upload with fewer bytes, e.g. of a truncated file, changes nothing."""
    claim = study.claimed()
    kept = "SELECT tail, bytes FROM hpo.attempt_logs WHERE attempt_id = :id"
    for tail, size in (("first", 5), ("more", 9), ("", 0), ("first", 5), ("less", 9)):
        study.do(attempts.keep_log, claim.attempt_id, tail, size)
    assert tuple(study.row(kept, claim.attempt_id)) == ("more", 9)
