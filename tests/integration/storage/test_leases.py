"""Leases on PostgreSQL: fencing, renewal, expiry and the release of attempts of dead agents."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import create_engine, text

from hpo.outcomes import Outcome
from storage import agents, attempts, claims, leases
from storage.attempts import LeaseLostError
from storage.claims import Claim, NoWork
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


def test_settling_is_repeatable(study: StudyDriver) -> None:
    claim = study.claimed()
    for _ in range(2):
        study.do(leases.settle, claim.attempt_id, Outcome.COMPLETE, 0.5)
    assert study.count().finished == 1
    first = study.attempt(claim)
    study.do(leases.settle, claim.attempt_id, Outcome.COMPLETE, 0.7)
    assert study.attempt(claim) == first
    assert study.trial(claim).value == 0.5


def test_settling_with_another_outcome_is_refused(study: StudyDriver) -> None:
    claim = study.claimed()
    study.do(leases.settle, claim.attempt_id, Outcome.PRUNED, 0.5)
    with pytest.raises(LeaseLostError):
        study.do(leases.settle, claim.attempt_id, Outcome.COMPLETE, 0.5)


def test_attempt_without_a_lease_is_fenced(study: StudyDriver) -> None:
    lost = study.claimed()
    study.record(lost, (1, 0.9))
    study.expire(lost)
    assert reap(study) == 1
    resumed = study.claimed(agent=study.join())
    assert resumed.reservation_id == lost.reservation_id
    for call in (
        lambda: study.do(leases.settle, lost.attempt_id, Outcome.COMPLETE, 0.1),
        lambda: study.record(lost, (2, 0.1)),
        lambda: study.do(attempts.begin, lost.attempt_id, 1, 0),
        lambda: study.do(attempts.attach, lost.attempt_id, 1, 1, {}),
        lambda: study.do(attempts.guard, lost.attempt_id),
    ):
        with pytest.raises(LeaseLostError):
            call()
    assert study.trial(lost).epochs == 1
    study.do(leases.settle, resumed.attempt_id, Outcome.COMPLETE, 0.2)
    assert study.trial(lost).value == 0.2


def test_only_expired_leases_are_reaped(study: StudyDriver) -> None:
    long, short = study.claimed(slot=0), study.claimed(slot=1, lease=0.0)
    assert reap(study) == 1
    assert study.attempt(long).outcome is None
    ended = study.attempt(short)
    assert (ended.outcome, ended.error) == ("lost", "its agent's lease expired")
    assert reap(study) == 0


def test_renewed_lease_is_not_reaped(study: StudyDriver) -> None:
    claim = study.claimed()
    study.expire(claim)
    assert study.do(leases.renew, study.agent_id, 60.0) == {claim.attempt_id}
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


def test_renewal_returns_the_held_attempts(study: StudyDriver) -> None:
    kept, lost = study.claimed(slot=0), study.claimed(slot=1)
    study.expire(lost)
    reap(study)
    assert study.do(leases.renew, study.agent_id, 60.0) == {kept.attempt_id}


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


def test_released_attempt_is_not_lost(study: StudyDriver) -> None:
    first = study.claimed()
    for _ in range(MAX_LOST + 1):
        claim = study.claimed()
        assert claim.reservation_id == first.reservation_id
        study.do(leases.release, claim.attempt_id)
        study.do(leases.release, claim.attempt_id)
    assert study.trial(first).lost == 0
    assert study.attempt(first).outcome == "released"
    # After its release an attempt has nothing more to lose.
    study.do(leases.lose, first.attempt_id, "late", MAX_LOST)
    assert study.trial(first).lost == 0


def test_first_report_of_an_epoch_is_kept(study: StudyDriver) -> None:
    first = study.claimed()
    assert study.record(first, (1, 0.9), (2, 0.8)) == {1: {"loss": 0.9}, 2: {"loss": 0.8}}
    study.do(leases.release, first.attempt_id)
    second = study.claimed()
    study.do(attempts.begin, second.attempt_id, 42, 1)
    assert study.record(second, (2, 0.7), (3, 0.6)) == {2: {"loss": 0.8}, 3: {"loss": 0.6}}
    assert study.record(second) == {}
    assert study.trial(second).epochs == 3
    assert (study.attempt(second).resumed_from, study.attempt(second).epochs) == (1, 2)
    # Repeated after a lost answer, it changes nothing.
    assert study.record(second, (3, 0.5)) == {3: {"loss": 0.6}}


def test_non_finite_metrics_are_preserved(study: StudyDriver) -> None:
    stored = study.record(study.claimed(), (1, math.nan), (2, math.inf), (3, -math.inf))
    assert math.isnan(stored[1]["loss"])
    assert [stored[2]["loss"], stored[3]["loss"]] == [math.inf, -math.inf]


def test_leaving_releases_held_attempts(study: StudyDriver) -> None:
    claims = [study.claimed(slot) for slot in range(2)]
    study.do(agents.leave, study.agent_id)
    assert [study.attempt(claim).outcome for claim in claims] == ["released", "released"]
    assert study.do(agents.agents_of_host, study.study_id, "here") == []
    resumed = {study.claimed(slot, agent=study.join()).reservation_id for slot in range(2)}
    assert resumed == {claim.reservation_id for claim in claims}


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


def test_trial_has_at_most_one_live_attempt_under_concurrent_claims(
    database: Database, storage_url: str
) -> None:
    """Eight agents reap expired leases, claim free trials and let their leases expire again."""
    study = StudyDriver(database, trials=4)
    engine = create_engine(storage_url, pool_size=8)

    def work(agent: int) -> list[int]:
        with engine.begin() as c:
            agent_id = agents.new_agent_id(c)
            agents.join(c, agent_id, study.study_id, "here", agent, f"boot:{agent}:1.00", 1, {})
        claimed = []
        for _ in range(15):
            with engine.begin() as c:
                reap_all(c, study.study_id, 10_000)
                # An index of the database's would refuse a second live attempt.
                claim = claims.claim(c, study.study_id, agent_id, "here", 0, "cpu:0", 0.0)
            if isinstance(claim, Claim):
                claimed.append(claim.reservation_id)
            else:
                assert claim is NoWork.ELSEWHERE
        return claimed

    with ThreadPoolExecutor(8) as threads:
        claimed = [
            reservation_id
            for reservation_ids in threads.map(work, range(8))
            for reservation_id in reservation_ids
        ]
    engine.dispose()
    assert len(set(claimed)) == 4
    counts = study.count()
    assert counts.running + counts.waiting == 4
    lost = study.database.transaction(
        lambda c: c.execute(text("SELECT sum(lost) FROM hpo.trials")).scalar_one()
    )
    ended = study.database.transaction(
        lambda c: c.execute(text("SELECT count(*) FROM hpo.attempts WHERE ended_at IS NOT NULL")).scalar_one()
    )
    assert lost == ended > 0


def test_prefetched_trial_is_not_lost_with_its_agent(study: StudyDriver) -> None:
    ahead = study.do(claims.claim, study.study_id, study.agent_id, "here", 2, claims.NEXT, LEASE)
    assert isinstance(ahead, Claim)
    assert study.do(agents.reap_agent, study.agent_id, 1) == 1
    assert study.attempt(ahead).outcome == "released"
    assert (study.trial(ahead).lost, study.trial(ahead).outcome) == (0, None)
    again = study.claimed(agent=study.join())
    assert again.reservation_id == ahead.reservation_id


def test_stored_log_never_shrinks(study: StudyDriver) -> None:
    """A later upload with fewer bytes, e.g. of a truncated file, changes nothing."""
    claim = study.claimed()
    kept = "SELECT tail, bytes FROM hpo.attempt_logs WHERE attempt_id = :id"
    for tail, size in (("first", 5), ("more", 9), ("", 0), ("first", 5), ("less", 9)):
        study.do(attempts.keep_log, claim.attempt_id, tail, size)
    assert tuple(study.row(kept, claim.attempt_id)) == ("more", 9)
