"""Leases against a real PostgreSQL: who may still report, and what becomes of what the dead held."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import create_engine, text

from hpo.outcomes import Outcome
from storage import agents, attempt_logs, attempts, budget, leases
from storage.attempts import LeaseLostError
from storage.budget import Claim, NoWork
from storage.engine import Database
from tests.integration.storage.ledger import LEASE, Ledger, reap_all

MAX_LOST = 3


@pytest.fixture
def ledger(database: Database) -> Ledger:
    return Ledger(database)


def reap(ledger: Ledger) -> int:
    return ledger.do(reap_all, ledger.study_id, MAX_LOST)


def test_agents_are_numbered(ledger: Ledger) -> None:
    def join(agent_id: int) -> int:
        return ledger.do(agents.join, agent_id, ledger.study_id, "here", 1, "boot:1:1", 2, {})

    joining = [ledger.do(agents.new_agent_id) for _ in range(2)]
    # The second time as after a commit whose answer was lost.
    assert [join(agent_id) for agent_id in (joining[0], joining[0], joining[1])] == [1, 1, 2]
    known = ledger.do(agents.agents_of_host, ledger.study_id, "here")
    assert [agent_id for agent_id, _, _ in known] == [ledger.agent_id, *joining]


def test_settling_is_repeatable(ledger: Ledger) -> None:
    claim = ledger.claimed()
    for _ in range(2):
        ledger.do(leases.settle, claim.attempt_id, Outcome.COMPLETE, 0.5)
    assert ledger.count().finished == 1
    first = ledger.attempt(claim)
    ledger.do(leases.settle, claim.attempt_id, Outcome.COMPLETE, 0.7)
    assert ledger.attempt(claim) == first
    assert ledger.trial(claim).value == 0.5


def test_another_outcome_than_the_settled_one_is_refused(ledger: Ledger) -> None:
    claim = ledger.claimed()
    ledger.do(leases.settle, claim.attempt_id, Outcome.PRUNED, 0.5)
    with pytest.raises(LeaseLostError):
        ledger.do(leases.settle, claim.attempt_id, Outcome.COMPLETE, 0.5)


def test_an_attempt_that_lost_its_lease_is_fenced(ledger: Ledger) -> None:
    lost = ledger.claimed()
    ledger.record(lost, (1, 0.9))
    ledger.expire(lost)
    assert reap(ledger) == 1
    resumed = ledger.claimed(agent=ledger.join())
    assert resumed.reservation_id == lost.reservation_id
    for call in (
        lambda: ledger.do(leases.settle, lost.attempt_id, Outcome.COMPLETE, 0.1),
        lambda: ledger.record(lost, (2, 0.1)),
        lambda: ledger.do(attempts.begin, lost.attempt_id, 1, 0),
        lambda: ledger.do(attempts.attach, lost.attempt_id, 1, 1, {}),
        lambda: ledger.do(attempts.guard, lost.attempt_id),
    ):
        with pytest.raises(LeaseLostError):
            call()
    assert ledger.trial(lost).epochs == 1
    ledger.do(leases.settle, resumed.attempt_id, Outcome.COMPLETE, 0.2)
    assert ledger.trial(lost).value == 0.2


def test_only_what_has_run_out_is_reaped(ledger: Ledger) -> None:
    long, short = ledger.claimed(slot=0), ledger.claimed(slot=1, lease=0.0)
    assert reap(ledger) == 1
    assert ledger.attempt(long).outcome is None
    ended = ledger.attempt(short)
    assert (ended.outcome, ended.error) == ("lost", "its agent's lease expired")
    assert reap(ledger) == 0


def test_a_renewed_lease_is_not_reaped(ledger: Ledger) -> None:
    claim = ledger.claimed()
    ledger.expire(claim)
    assert ledger.do(leases.renew, ledger.agent_id, 60.0) == {claim.attempt_id}
    assert reap(ledger) == 0


def test_a_lease_renewed_since_it_was_looked_at_is_not_reaped(ledger: Ledger) -> None:
    claim = ledger.claimed()
    ledger.expire(claim)
    seen = ledger.do(leases.suspects, ledger.study_id)
    assert set(seen) == {claim.attempt_id}
    ledger.do(leases.renew, ledger.agent_id, LEASE)
    assert ledger.do(leases.reap, seen, MAX_LOST) == 0


def test_a_lease_that_ends_too_far_ahead_is_doubtful(ledger: Ledger) -> None:
    """The database's clock was set back."""
    claim = ledger.claimed()
    assert ledger.do(leases.suspects, ledger.study_id) == {}
    ledger.do(leases.renew, ledger.agent_id, 3600.0)
    assert set(ledger.do(leases.suspects, ledger.study_id)) == {claim.attempt_id}


def test_renewing_names_what_is_still_held(ledger: Ledger) -> None:
    kept, lost = ledger.claimed(slot=0), ledger.claimed(slot=1)
    ledger.expire(lost)
    reap(ledger)
    assert ledger.do(leases.renew, ledger.agent_id, 60.0) == {kept.attempt_id}


def test_the_hosts_time_zone_means_nothing(ledger: Ledger) -> None:
    """Two agents whose sessions are half a day apart agree on what has run out."""
    claim = ledger.claimed(lease=5.0)
    with ledger.database.engine.begin() as c:
        c.execute(text("SET LOCAL TIME ZONE 'Pacific/Kiritimati'"))
        assert reap_all(c, ledger.study_id, MAX_LOST) == 0
    ledger.expire(claim)
    with ledger.database.engine.begin() as c:
        c.execute(text("SET LOCAL TIME ZONE 'Pacific/Pago_Pago'"))
        assert reap_all(c, ledger.study_id, MAX_LOST) == 1


def test_lost_too_often_is_failed(ledger: Ledger) -> None:
    reservation_ids = set()
    for lost in range(1, MAX_LOST + 1):
        claim = ledger.claimed()
        reservation_ids.add(claim.reservation_id)
        assert ledger.trial(claim).outcome is None
        for _ in range(2):
            ledger.do(leases.lose, claim.attempt_id, "ended by SIGKILL", MAX_LOST)
        assert ledger.trial(claim).lost == lost
    assert len(reservation_ids) == 1
    trial = ledger.trial(claim)
    assert trial.outcome == "lost"
    assert trial.error == "lost 3 times, the last time: ended by SIGKILL"
    assert ledger.count().failed == 1
    assert ledger.claimed().reservation_id not in reservation_ids


@pytest.mark.parametrize(
    ("kinds", "outcome"),
    [
        (["oom"] * 3, "oom"),
        (["hung"] * 3, "hung"),
        (["lost", "lost", "oom"], "lost"),
        (["oom", "oom", "lost"], "lost"),
    ],
)
def test_a_trial_is_blamed_for_what_it_was_lost_by_each_time(
    ledger: Ledger, kinds: list[str], outcome: str
) -> None:
    """Two machines that went away and one crash do not show that it needs too much memory."""
    for kind in kinds:
        claim = ledger.claimed()
        ledger.do(leases.lose, claim.attempt_id, "why", 3, kind)
    assert ledger.trial(claim).outcome == outcome


def test_released_is_not_lost(ledger: Ledger) -> None:
    first = ledger.claimed()
    for _ in range(MAX_LOST + 1):
        claim = ledger.claimed()
        assert claim.reservation_id == first.reservation_id
        ledger.do(leases.release, claim.attempt_id)
        ledger.do(leases.release, claim.attempt_id)
    assert ledger.trial(first).lost == 0
    assert ledger.attempt(first).outcome == "released"
    # After its release an attempt has nothing more to lose.
    ledger.do(leases.lose, first.attempt_id, "late", MAX_LOST)
    assert ledger.trial(first).lost == 0


def test_the_first_report_of_an_epoch_stands(ledger: Ledger) -> None:
    first = ledger.claimed()
    assert ledger.record(first, (1, 0.9), (2, 0.8)) == {1: {"loss": 0.9}, 2: {"loss": 0.8}}
    ledger.do(leases.release, first.attempt_id)
    second = ledger.claimed()
    ledger.do(attempts.begin, second.attempt_id, 42, 1)
    assert ledger.record(second, (2, 0.7), (3, 0.6)) == {2: {"loss": 0.8}, 3: {"loss": 0.6}}
    assert ledger.record(second) == {}
    assert ledger.trial(second).epochs == 3
    assert (ledger.attempt(second).resumed_from, ledger.attempt(second).epochs) == (1, 2)
    # Repeated after a lost answer, it changes nothing.
    assert ledger.record(second, (3, 0.5)) == {3: {"loss": 0.6}}


def test_metrics_that_are_no_numbers_come_back(ledger: Ledger) -> None:
    stored = ledger.record(ledger.claimed(), (1, math.nan), (2, math.inf), (3, -math.inf))
    assert math.isnan(stored[1]["loss"])
    assert [stored[2]["loss"], stored[3]["loss"]] == [math.inf, -math.inf]


def test_leaving_releases_what_is_held(ledger: Ledger) -> None:
    claims = [ledger.claimed(slot) for slot in range(2)]
    ledger.do(agents.leave, ledger.agent_id)
    assert [ledger.attempt(claim).outcome for claim in claims] == ["released", "released"]
    assert ledger.do(agents.agents_of_host, ledger.study_id, "here") == []
    resumed = {ledger.claimed(slot, agent=ledger.join()).reservation_id for slot in range(2)}
    assert resumed == {claim.reservation_id for claim in claims}


def test_a_dead_agent_of_this_host_is_reaped_at_once(ledger: Ledger) -> None:
    dead = ledger.join(pid=7, process="boot:7:1.00")
    elsewhere = ledger.join(host="there", pid=7)
    held, other = ledger.claimed(agent=dead), ledger.claimed(agent=elsewhere)
    here = ledger.do(agents.agents_of_host, ledger.study_id, "here")
    assert (dead, 7, "boot:7:1.00") in here
    assert elsewhere not in [agent_id for agent_id, _, _ in here]
    assert ledger.do(agents.reap_agent, dead, MAX_LOST) == 1
    assert ledger.attempt(held).error == "its agent was killed"
    assert ledger.attempt(other).outcome is None
    assert dead not in [row[0] for row in ledger.do(agents.agents_of_host, ledger.study_id, "here")]


def test_a_trial_has_one_live_attempt_whoever_reaps_and_claims(database: Database, storage_url: str) -> None:
    """Eight agents end what has run out, claim what is free and let it run out again."""
    ledger = Ledger(database, trials=4)
    engine = create_engine(storage_url, pool_size=8)

    def work(agent: int) -> list[int]:
        with engine.begin() as c:
            agent_id = agents.new_agent_id(c)
            agents.join(c, agent_id, ledger.study_id, "here", agent, f"boot:{agent}:1.00", 1, {})
        claimed = []
        for _ in range(15):
            with engine.begin() as c:
                reap_all(c, ledger.study_id, 10_000)
                # An index of the database's would refuse a second live attempt.
                claim = budget.claim(c, ledger.study_id, agent_id, "here", 0, "cpu:0", 0.0)
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
    counts = ledger.count()
    assert counts.running + counts.waiting == 4
    lost = ledger.database.transaction(
        lambda c: c.execute(text("SELECT sum(lost) FROM hpo.trials")).scalar_one()
    )
    ended = ledger.database.transaction(
        lambda c: c.execute(text("SELECT count(*) FROM hpo.attempts WHERE ended_at IS NOT NULL")).scalar_one()
    )
    assert lost == ended > 0


def test_what_was_asked_ahead_is_not_charged_with_its_agents_death(ledger: Ledger) -> None:
    ahead = ledger.do(budget.claim, ledger.study_id, ledger.agent_id, "here", 2, budget.NEXT, LEASE)
    assert isinstance(ahead, Claim)
    assert ledger.do(agents.reap_agent, ledger.agent_id, 1) == 1
    assert ledger.attempt(ahead).outcome == "released"
    assert (ledger.trial(ahead).lost, ledger.trial(ahead).outcome) == (0, None)
    again = ledger.claimed(agent=ledger.join())
    assert again.reservation_id == ahead.reservation_id


def test_what_is_kept_of_a_log_never_gets_less(ledger: Ledger) -> None:
    """Whoever has seen less of it, of a file that was cut for instance, spoils nothing."""
    claim = ledger.claimed()
    kept = "SELECT tail, bytes FROM hpo.attempt_logs WHERE attempt_id = :id"
    for tail, size in (("first", 5), ("more", 9), ("", 0), ("first", 5), ("less", 9)):
        ledger.do(attempt_logs.keep_log, claim.attempt_id, tail, size)
    assert tuple(ledger.row(kept, claim.attempt_id)) == ("more", 9)
