"""Budget and leases as a state machine, driven at random against a real PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import Connection, text

from storage import budget, leases
from storage.budget import FAILED, FINISHED, Claim, NoWork
from storage.engine import Database, open_database
from storage.leases import LeaseLostError
from tests.integration.storage.ledger import reap_all

T = TypeVar("T")

EPOCHS = 3
MAX_LOST = 3
LEASE = 3600.0


class Ledger(RuleBasedStateMachine):
    """Agents claim, train, settle, die and come back; a model of a few sets says what must hold."""

    database: Database
    agents = Bundle("agents")
    claims = Bundle("claims")

    @initialize(target=agents, trials=st.integers(1, 3))
    def begin(self, trials: int) -> object:
        """Few trials and several agents, so that they compete from the first step."""
        self.trials = trials
        self.slots = 0
        self.live: dict[int, Claim] = {}
        """Attempts that may report, by id."""
        self.fenced: set[int] = set()
        self.settled: dict[int, str] = {}
        """Outcome of each share that was decided, by token."""
        self.ahead: set[int] = set()
        """Attempts that were asked ahead and not placed since."""
        self.spares: dict[int, int] = {}
        """Those that were sampled, with their agents: an idle one may take them."""
        self.lost: dict[int, int] = {}
        """How often the attempts of a share were lost, by token."""
        self.do(_fresh_study)
        self.do(lambda c: budget.set_budget(c, 1, trials))
        return multiple(*(self.join() for _ in range(3)))

    def do(self, work: Callable[[Connection], T], twice: bool = False) -> T:
        """A transaction; `twice` as after a commit whose answer was lost."""
        result = self.database.transaction(work)
        return self.database.transaction(work) if twice else result

    def join(self, twice: bool = False) -> int:
        agent = self.do(leases.new_agent_id)
        self.do(lambda c: leases.join(c, agent, 1, "host", 1, "boot:1:0", 4, {}, LEASE), twice)
        return agent

    @rule(target=agents, twice=st.booleans())
    def one_more_joins(self, twice: bool) -> int:
        return self.join(twice)

    @rule(target=claims, agent=agents, twice=st.booleans())
    def claim(self, agent: int, twice: bool) -> Claim | None:
        """None where there was no work: how many things are drawn from must not depend on who wins a race."""
        self.slots += 1
        got = self.do(lambda c: budget.claim(c, 1, agent, "host", self.slots, "cpu:0", LEASE), twice)
        if isinstance(got, NoWork):
            assert got in (NoWork.DONE, NoWork.ELSEWHERE)
            return None
        self.hold(got, agent)
        return got

    @rule(target=claims, agent=agents, sampled=st.booleans(), twice=st.booleans())
    def ask_ahead(self, agent: int, sampled: bool, twice: bool) -> Claim | None:
        self.slots += 1
        got = self.do(lambda c: budget.claim(c, 1, agent, "host", self.slots, budget.NEXT, LEASE), twice)
        if isinstance(got, NoWork):
            return None
        # Who asks ahead takes nothing from anybody.
        self.hold(got)
        self.ahead.add(got.attempt_id)
        if sampled:
            self.do(lambda c: leases.attach(c, got.attempt_id, got.token, got.ordinal, {"x": 1.0}), twice)
        if sampled or got.params is not None:
            self.spares[got.attempt_id] = agent
        return got

    @rule(claim=claims, twice=st.booleans())
    def place(self, claim: Claim | None, twice: bool) -> None:
        """Its agent has started a trainer for it."""
        if claim is None:
            return
        if claim.attempt_id in self.live:
            self.slots += 1
            self.do(lambda c: leases.place(c, claim.attempt_id, self.slots, "cpu:0"), twice)
            self.ahead.discard(claim.attempt_id)
            self.spares.pop(claim.attempt_id, None)
        else:
            with pytest.raises(LeaseLostError):
                self.do(lambda c: leases.place(c, claim.attempt_id, self.slots, "cpu:0"))

    @rule(target=claims, agents_in_turn=st.lists(agents, min_size=2, max_size=4))
    def claim_at_once(self, agents_in_turn: list[int]) -> object:
        """From as many connections at the same moment."""
        first = self.slots + 1
        self.slots += len(agents_in_turn)

        def claim(index: int) -> Claim | NoWork:
            agent = agents_in_turn[index]
            return self.do(lambda c: budget.claim(c, 1, agent, "host", first + index, "cpu:0", LEASE))

        with ThreadPoolExecutor(len(agents_in_turn)) as pool:
            got = list(pool.map(claim, range(len(agents_in_turn))))
        claims = [each if isinstance(each, Claim) else None for each in got]
        for agent, each in zip(agents_in_turn, claims, strict=True):
            if each is not None:
                self.hold(each, agent)
        return multiple(*claims)

    def hold(self, claim: Claim, idle: int | None = None) -> None:
        """`idle`: the agent that has a slot for it, and so may have taken it from another."""
        for attempt_id, owner in list(self.spares.items()):
            spare = self.live.get(attempt_id)
            if idle is not None and spare is not None and spare.token == claim.token and owner != idle:
                del self.live[attempt_id], self.spares[attempt_id]
                self.fenced.add(attempt_id)
        assert claim.attempt_id not in self.fenced
        assert claim.token not in {other.token for other in self.live.values()}, "trained twice at once"
        assert claim.token not in self.settled, "a settled share was handed out again"
        self.live[claim.attempt_id] = claim

    @rule(claim=claims, epoch=st.integers(1, EPOCHS), twice=st.booleans())
    def report(self, claim: Claim | None, epoch: int, twice: bool) -> None:
        if claim is None:
            return

        def write(c: Connection) -> dict[int, dict[str, float]]:
            return leases.record(c, claim.attempt_id, [(epoch, {"loss": float(claim.attempt_id)}, 0.1)])

        if claim.attempt_id in self.live:
            stored = self.do(write, twice)
            assert list(stored) == [epoch]
        else:
            with pytest.raises(LeaseLostError):
                self.do(write)

    @rule(
        claim=claims,
        outcome=st.sampled_from(["complete", "pruned", "diverged", "oom", "bug"]),
        twice=st.booleans(),
    )
    def settle(self, claim: Claim | None, outcome: str, twice: bool) -> None:
        if claim is None:
            return

        def write(c: Connection) -> None:
            leases.settle(c, claim.attempt_id, outcome, 0.5)

        if claim.attempt_id in self.live:
            self.do(write, twice)
            del self.live[claim.attempt_id]
            self.settled[claim.token] = outcome
        elif self.settled.get(claim.token) != outcome:
            with pytest.raises(LeaseLostError):
                self.do(write)

    @rule(claim=claims, twice=st.booleans())
    def release(self, claim: Claim | None, twice: bool) -> None:
        if claim is None:
            return
        self.do(lambda c: leases.release(c, claim.attempt_id), twice)
        self.live.pop(claim.attempt_id, None)
        self.fenced.add(claim.attempt_id)

    @rule(claim=claims, twice=st.booleans())
    def lose(self, claim: Claim | None, twice: bool) -> None:
        """Its trainer died."""
        if claim is None:
            return
        self.do(lambda c: leases.lose(c, claim.attempt_id, "killed", MAX_LOST), twice)
        self.note_lost(claim)

    @rule(claim=claims)
    def expire(self, claim: Claim | None) -> None:
        """Its agent was not heard of: the lease runs out and somebody looks."""
        if claim is None:
            return
        self.run_out(claim)
        self.do(lambda c: reap_all(c, 1, MAX_LOST), twice=True)
        self.note_lost(claim)

    def run_out(self, claim: Claim) -> None:
        self.do(
            lambda c: c.execute(
                text(
                    "UPDATE hpo.attempts SET lease_until = clock_timestamp() - interval '1 s' WHERE attempt_id = :a"
                ),
                {"a": claim.attempt_id},
            )
        )

    def note_lost(self, claim: Claim) -> None:
        if self.live.pop(claim.attempt_id, None) is None:
            return
        self.fenced.add(claim.attempt_id)
        if claim.attempt_id in self.ahead:
            return
        self.lost[claim.token] = self.lost.get(claim.token, 0) + 1
        if self.lost[claim.token] == MAX_LOST:
            self.settled[claim.token] = "lost"

    @rule(claim=claims, others=st.lists(st.sampled_from(["lose", "release", "expire", "settle"]), min_size=1))
    def all_at_once(self, claim: Claim | None, others: list[str]) -> None:
        """An attempt settles, is lost, released and reaped at the same moment: one of them wins."""
        if claim is None:
            return
        acts: dict[str, Callable[[Connection], object]] = {
            "settle": lambda c: leases.settle(c, claim.attempt_id, "complete", 0.5),
            "lose": lambda c: leases.lose(c, claim.attempt_id, "killed", MAX_LOST),
            "release": lambda c: leases.release(c, claim.attempt_id),
            "expire": lambda c: reap_all(c, 1, MAX_LOST),
        }
        if "expire" in others:
            self.run_out(claim)

        def act(name: str) -> None:
            with suppress(LeaseLostError):
                self.do(acts[name])

        with ThreadPoolExecutor(len(others) + 1) as pool:
            list(pool.map(act, ["settle", *others]))
        if claim.attempt_id not in self.live:
            return
        row = self.do(
            lambda c: c.execute(
                text("SELECT outcome FROM hpo.attempts WHERE attempt_id = :a AND ended_at IS NOT NULL"),
                {"a": claim.attempt_id},
            ).one()
        )
        if row.outcome == "lost":
            self.note_lost(claim)
        else:
            assert row.outcome in ("complete", "released")
            del self.live[claim.attempt_id]
            self.fenced.add(claim.attempt_id)
            if row.outcome == "complete":
                self.settled[claim.token] = "complete"

    @rule(agent=agents)
    def renew(self, agent: int) -> None:
        held = self.do(lambda c: leases.renew(c, agent, LEASE))
        assert held <= set(self.live)

    @rule(trials=st.integers(1, 8), twice=st.booleans())
    def resize(self, trials: int, twice: bool) -> None:
        """Smaller, too; but what has begun is finished."""
        self.do(lambda c: budget.set_budget(c, 1, trials), twice)
        counts = self.do(lambda c: budget.count(c, 1))
        self.trials = max(trials, counts.finished + counts.running + counts.waiting)

    @invariant()
    def books_balance(self) -> None:
        if not hasattr(self, "live"):
            return
        counts = self.do(lambda c: budget.count(c, 1))
        assert counts.budget == self.trials
        assert counts.running == len(self.live)
        assert counts.finished == sum(outcome in FINISHED for outcome in self.settled.values())
        assert counts.finished + counts.running <= self.trials, "the budget is overdrawn"
        assert counts.failed == sum(outcome in FAILED for outcome in self.settled.values())

    def teardown(self) -> None:
        """However it went, one more agent brings the study to exactly its budget."""
        if not hasattr(self, "live"):
            return
        for attempt_id in list(self.live):
            self.do(lambda c, a=attempt_id: leases.release(c, a))  # type: ignore[misc]
        agent = self.join()
        while isinstance(
            got := self.do(lambda c: budget.claim(c, 1, agent, "host", 0, "cpu:0", LEASE)), Claim
        ):
            self.do(lambda c, a=got.attempt_id: leases.settle(c, a, "complete", 0.5))  # type: ignore[misc]
        assert got is NoWork.DONE
        counts = self.do(lambda c: budget.count(c, 1))
        assert (counts.finished, counts.running, counts.waiting) == (self.trials, 0, 0)


def _fresh_study(connection: Connection) -> None:
    connection.execute(text("DELETE FROM hpo.studies"))
    connection.execute(
        text("INSERT INTO hpo.studies (study_id, name, spec, budget) VALUES (1, 's', '{\"seed\": 0}', 1)")
    )


def test_any_order_of_events_keeps_the_books_balanced(storage_url: str) -> None:
    with open_database(storage_url, Path("unused")) as database:
        machine = type("LedgerHere", (Ledger,), {"database": database})
        run_state_machine_as_test(
            machine,
            settings=settings(
                max_examples=25,
                stateful_step_count=30,
                deadline=None,
                database=None,
                # Each step is a transaction: making a failure smaller takes longer than the test may.
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            ),
        )
