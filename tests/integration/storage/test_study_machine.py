"""Budget and leases as a state machine, driven at random against a real PostgreSQL.

Half of its rules have two connections do different things at the same moment: see `overlap.py`.
"""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pytest
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

from hpo.outcomes import FAILURES, Outcome
from hpo.search.freeze_thaw import FreezeThaw
from storage import agents, attempts, budget, leases
from storage.attempts import LeaseLostError
from storage.claiming import claims
from storage.claiming.claims import Claim, NoWork
from storage.engine import Database
from storage.freeze_thaw import pauses, rungs
from storage.opening import open_database
from tests.integration.storage.overlap import Overlap, overlap
from tests.integration.storage.study_model import ENDINGS, LEASE, OF_ALL, StudyDriverModel, Work
from tests.properties import HealthCheck, Phase, settings, st
from tests.specs import THIRDS

T = TypeVar("T")
U = TypeVar("U")

EPOCHS = 3
NTH = st.integers(0, 7)


class StudyDriver(StudyDriverModel, RuleBasedStateMachine):
    """Agents claim, train, settle, die and return; a model of a few sets predicts the state."""

    database: Database
    agents = Bundle("agents")
    claims = Bundle("claims")

    @initialize(target=agents, trials=st.integers(1, 3), freezes=st.booleans())
    def begin(self, trials: int, freezes: bool) -> object:
        """Few trials and several agents, so that they compete from the first step."""
        self.expect_nothing(trials, FreezeThaw(epochs=EPOCHS, levels=THIRDS) if freezes else None)
        self.do(partial(_fresh_study, freezes=freezes))
        self.do(lambda c: budget.set_budget(c, 1, trials))
        return multiple(*(self.join() for _ in range(3)))

    def do(self, work: Work[T], twice: bool = False) -> T:
        """A transaction; `twice` as after a commit whose answer was lost."""
        result = self.database.transaction(work)
        return self.database.transaction(work) if twice else result

    def allowed(self, work: Work[T], claim: Claim, twice: bool) -> list[T]:
        """The result of a write in a list, which is empty if the attempt has ended: then it is refused."""
        if self.is_live(claim):
            return [self.do(work, twice)]
        with pytest.raises(LeaseLostError):
            self.do(work)
        return []

    def overlap(self, first: Work[T], second: Work[U]) -> Overlap[T, U]:
        return overlap(self.database, first, second)

    def join(self, twice: bool = False) -> int:
        agent = self.do(agents.new_agent_id)
        self.do(lambda c: agents.join(c, agent, 1, "host", 1, "boot:1:0", 4, {}, LEASE), twice)
        return agent

    # One after the other.

    @rule(target=agents, twice=st.booleans())
    def one_more_joins(self, twice: bool) -> int:
        return self.join(twice)

    @rule(target=claims, agent=agents, twice=st.booleans())
    def claim(self, agent: int, twice: bool) -> Claim | None:
        expected = self.expect(agent)
        work = self.claiming(agent)
        got = self.do(work)
        if twice and isinstance(got, Claim):
            again = self.do(work)
            assert isinstance(again, Claim)
            assert (again.attempt_id, again.reservation_id, again.fresh) == (
                got.attempt_id,
                got.reservation_id,
                False,
            )
        return self.claimed(agent, got, expected)

    @rule(target=claims, agent=agents, sampled=st.booleans(), twice=st.booleans())
    def prefetch(self, agent: int, sampled: bool, twice: bool = False) -> Claim | None:
        expected = self.expect(agent, ahead=True)
        got = self.claimed(agent, self.do(self.claiming(agent, attempts.NEXT)), expected, ahead=True)
        if got is not None and sampled:
            self.do(self.writing("attach", got), twice)
            self.written("attach", got)
        return got

    @rule(claim=claims, twice=st.booleans())
    def place(self, claim: Claim | None, twice: bool) -> None:
        """Its agent has started a trainer for it."""
        if claim is None:
            return
        if self.allowed(self.writing("place", claim), claim, twice):
            self.written("place", claim)

    @rule(claim=claims, epoch=st.integers(1, EPOCHS), twice=st.booleans())
    def report(self, claim: Claim | None, epoch: int, twice: bool) -> None:
        if claim is None:
            return
        if stored := self.allowed(self.writing("record", claim, epoch), claim, twice):
            self.written("record", claim, epoch)
            assert stored == [{epoch: {"loss": float(self.snapshot[claim.reservation_id, epoch])}}]

    @rule(claim=claims, score=st.integers(0, 3), twice=st.booleans())
    def reach_rung(self, claim: Claim | None, score: int, twice: bool) -> None:
        """Its trial pauses, or goes on as one of the best."""
        if claim is None or self.rule is None:
            return
        rule = self.rule
        for paused in self.allowed(
            lambda c: rungs.judge(c, claim.attempt_id, rule, {1: float(score)}), claim, twice
        ):
            assert paused == self.judged(claim, score)

    @rule(
        claim=claims,
        outcome=st.sampled_from(["complete", "pruned", "diverged", "oom", "bug"]),
        twice=st.booleans(),
    )
    def settle(self, claim: Claim | None, outcome: str, twice: bool) -> None:
        if claim is None:
            return
        if not self.is_live(claim) and self.settled.get(claim.reservation_id) == outcome:
            return
        if self.allowed(self.ending(outcome, claim), claim, twice):
            self.ended(outcome, claim)

    @rule(claim=claims, how=st.sampled_from(["release", "lose", "leave", "reap_agent"]), twice=st.booleans())
    def end(self, claim: Claim | None, how: str, twice: bool) -> None:
        """Its trainer died, or its agent ends or is found dead."""
        if claim is None:
            return
        self.do(self.ending(how, claim), twice)
        self.ended(how, claim)

    @rule(claim=claims)
    def expire(self, claim: Claim | None) -> None:
        """Let the lease of a silent agent expire, and reap it."""
        if claim is None:
            return
        self.run_out(claim)
        self.do(self.ending("reap", claim), twice=True)
        self.ended("reap", claim)

    def run_out(self, claim: Claim) -> None:
        sql = "UPDATE hpo.attempts SET lease_until = clock_timestamp() - interval '1 s' WHERE attempt_id = :a"
        self.do(lambda c: c.execute(text(sql), {"a": claim.attempt_id}))
        self.overdue |= {claim.attempt_id} & self.live.keys()

    @rule(agent=agents)
    def renew(self, agent: int) -> None:
        assert self.do(lambda c: leases.renew(c, agent, LEASE)) == self.of(agent)
        self.overdue -= self.of(agent)

    @rule(trials=st.integers(1, 8), twice=st.booleans())
    def resize(self, trials: int, twice: bool = False) -> None:
        """Change the budget, also below the number of running trials, which finish; one with room reopens trials."""

        def change(c: Connection) -> int:
            budget.set_budget(c, 1, trials)
            return pauses.reopen(c, 1)

        reopened = self.do(change, twice)
        self.trials = max(trials, self.begun)
        expected = self.reopen()
        assert reopened == (0 if twice else expected)

    # Several at once.

    @rule(
        target=claims,
        agents_in_turn=st.lists(agents, min_size=2, max_size=4),
        trials=st.none() | st.integers(1, 8),
    )
    def claim_at_once(self, agents_in_turn: list[int], trials: int | None) -> object:
        """Claim from several connections while another one changes the budget."""
        works: list[Work[Any]] = [self.claiming(agent) for agent in agents_in_turn]
        if trials is not None:
            works.insert(len(works) // 2, lambda c: budget.set_budget(c, 1, trials))
        before = self.begun
        with ThreadPoolExecutor(len(works)) as pool:
            got = list(pool.map(self.do, works))
        if trials is not None:
            del got[len(agents_in_turn) // 2]
        claims = [each if isinstance(each, Claim) else None for each in got]
        if NoWork.DONE in got:
            # Before all claims that got a trial, because none may be held then.
            self.end_frozen()
        for agent, each in zip(agents_in_turn, claims, strict=True):
            if each is not None:
                self.hold(agent, each)
        if trials is not None:
            now = self.do(lambda c: budget.count(c, 1)).budget
            # Raised to the number of trials that had begun by then.
            assert now in {max(trials, begun) for begun in range(before, self.begun + 1)}
            self.trials = now
        return multiple(*claims)

    @rule(target=claims, agent=agents, other=agents)
    def claim_while_another_does(self, agent: int, other: int) -> object:
        expected = self.expect(agent)
        done = self.overlap(self.claiming(agent), self.claiming(other))
        assert done.waited
        first = self.claimed(agent, done.first, expected)
        return multiple(first, self.claimed(other, done.second, self.expect(other)))

    @rule(target=claims, agent=agents)
    def claim_again_before_the_answer(self, agent: int) -> Claim | None:
        """A connection fell silent, and the call is made again on another while its transaction still runs."""
        expected = self.expect(agent)
        work = self.claiming(agent)
        done = self.overlap(work, work)
        assert done.waited
        if isinstance(done.first, Claim):
            assert isinstance(done.second, Claim)
            assert done.second.attempt_id == done.first.attempt_id
        return self.claimed(agent, done.first, expected)

    @rule(target=claims, agent=agents, trials=st.integers(1, 8), claim_first=st.booleans())
    def claim_while_the_budget_changes(self, agent: int, trials: int, claim_first: bool) -> Claim | None:
        claim = self.claiming(agent)

        def resize(c: Connection) -> None:
            budget.set_budget(c, 1, trials)

        expected = self.expect(agent)
        done = self.overlap(claim, resize) if claim_first else self.overlap(resize, claim)
        assert done.waited
        if claim_first:
            got = self.claimed(agent, done.first, expected)
            self.trials = max(trials, self.begun)
            return got
        self.trials = max(trials, self.begun)
        return self.claimed(agent, done.second, self.expect(agent))

    @rule(target=claims, agent=agents, nth=NTH, how=st.sampled_from(ENDINGS), claim_first=st.booleans())
    def claim_while_one_ends(self, agent: int, nth: int, how: str, claim_first: bool) -> Claim | None:
        """An attempt that is ending can be neither claimed nor taken over; one just taken over cannot end."""
        if (claim := self.pick(nth)) is None:
            return None
        owner = self.owners[claim.attempt_id]
        if how in OF_ALL and owner == agent:
            # An agent that is gone claims nothing.
            return None
        if how == "reap":
            self.run_out(claim)
        touched = {claim.attempt_id}
        if how in OF_ALL:
            touched = self.of(owner)
        elif how == "reap":
            touched = set(self.overdue)
        claiming, ending = self.claiming(agent), self.ending(how, claim)
        if claim_first:
            expected = self.expect(agent)
            done = self.overlap(claiming, ending)
            held = set(self.live)
            got = self.claimed(agent, done.first, expected)
            taken = held - self.live.keys()
            assert done.waited == (bool(taken & touched) and how != "reap")
            refused = isinstance(done.second, LeaseLostError)
            assert refused == (claim.attempt_id in taken and how in ("complete", "bug"))
        else:
            expected = self.expect(agent, locked=touched)
            other = self.overlap(ending, claiming)
            assert not other.waited
            got = self.claimed(agent, other.second, expected)
        self.ended(how, claim)
        return got

    @rule(target=claims, agent=agents, owner=agents, place_first=st.booleans())
    def place_while_an_idle_agent_takes(self, agent: int, owner: int, place_first: bool) -> object:
        """Either its agent trains it or the idle one does."""
        if agent == owner:
            return multiple()
        self.resize(self.begun + 1)
        spare = self.prefetch(owner, sampled=True)
        assert spare is not None
        # Nothing new to begin, and a spare is all there is, unless something waits.
        self.resize(1)
        claiming, placing = self.claiming(agent), self.writing("place", spare)
        if place_first:
            expected = self.expect(agent, locked={spare.attempt_id})
            done = self.overlap(placing, claiming)
            assert not done.waited
            self.written("place", spare)
            return multiple(spare, self.claimed(agent, done.second, expected))
        expected = self.expect(agent)
        other = self.overlap(claiming, placing)
        got = self.claimed(agent, other.first, expected)
        assert other.waited == isinstance(other.second, LeaseLostError) == (not self.is_live(spare))
        if self.is_live(spare):
            self.written("place", spare)
        return multiple(spare, got)

    @rule(
        nth=NTH,
        write=st.sampled_from(["record", "attach", "place", "begin"]),
        epoch=st.integers(1, EPOCHS),
        how=st.sampled_from(ENDINGS),
        write_first=st.booleans(),
    )
    def write_while_it_ends(self, nth: int, write: str, epoch: int, how: str, write_first: bool) -> None:
        """Writes before the end are kept; later writes are refused."""
        if (claim := self.pick(nth)) is None:
            return
        if how == "reap":
            self.run_out(claim)
        writing, ending = self.writing(write, claim, epoch), self.ending(how, claim)
        if not write_first:
            done = self.overlap(ending, writing)
            assert done.waited
            assert isinstance(done.second, LeaseLostError)
            self.ended(how, claim)
            return
        other = self.overlap(writing, ending)
        self.written(write, claim, epoch)
        # Reaping skips locked rows, because this agent is alive.
        assert other.waited == (how != "reap")
        self.ended(how, claim, but={claim.attempt_id} if how == "reap" else ())

    @rule(nth=NTH, epoch=st.integers(1, EPOCHS))
    def report_again_before_the_answer(self, nth: int, epoch: int) -> None:
        """Repeat a report with other values, as from another machine: the first values are kept."""
        if (claim := self.pick(nth)) is None:
            return

        def otherwise(c: Connection) -> dict[int, dict[str, float]]:
            return attempts.record(c, claim.attempt_id, [(epoch, {"loss": -1.0}, 0.1)])

        done = self.overlap(self.writing("record", claim, epoch), otherwise)
        self.written("record", claim, epoch)
        stands = {epoch: {"loss": float(self.snapshot[claim.reservation_id, epoch])}}
        assert (done.waited, done.first, done.second) == (True, stands, stands)

    @rule(nth=NTH, first=st.sampled_from(ENDINGS), second=st.sampled_from(ENDINGS))
    def end_twice(self, nth: int, first: str, second: str) -> None:
        """The first ending counts, and the second changes nothing more of that attempt."""
        if (claim := self.pick(nth)) is None:
            return
        if "reap" in (first, second):
            self.run_out(claim)
        done = self.overlap(self.ending(first, claim), self.ending(second, claim))
        held = self.of(self.owners[claim.attempt_id])
        touched = {"leave": held, "reap_agent": held, "reap": set(self.overdue)}.get(
            first, {claim.attempt_id}
        )
        assert done.waited == (second != "reap")
        refused = isinstance(done.second, LeaseLostError)
        assert refused == (second in ("complete", "bug") and second != first)
        self.ended(first, claim)
        self.ended(second, claim, but=touched)

    @rule(nth=NTH, renew_first=st.booleans())
    def renew_while_others_reap(self, nth: int, renew_first: bool) -> None:
        """An agent that renews in time keeps its attempts; a late one learns which it has lost."""
        if (claim := self.pick(nth)) is None:
            return
        self.run_out(claim)
        owner = self.owners[claim.attempt_id]

        def renew(c: Connection) -> frozenset[int]:
            return leases.renew(c, owner, LEASE)

        reap = self.ending("reap", claim)
        if renew_first:
            held = self.of(owner)
            done = self.overlap(renew, reap)
            assert (done.waited, done.first, done.second) == (False, held, len(self.overdue - held))
            self.overdue -= held
            self.ended("reap", claim)
        else:
            other = self.overlap(reap, renew)
            assert (other.waited, other.first) == (True, len(self.overdue))
            self.ended("reap", claim)
            assert other.second == self.of(owner)
            self.overdue -= self.of(owner)

    @rule(nth=NTH, others=st.lists(st.sampled_from(["lose", "release", "reap", "bug"]), min_size=1))
    def all_at_once(self, nth: int, others: list[str]) -> None:
        """An attempt settles, is lost, released and reaped at the same moment: one of them wins."""
        if (claim := self.pick(nth)) is None:
            return
        if "reap" in others:
            self.run_out(claim)

        def act(how: str) -> None:
            with suppress(LeaseLostError):
                self.do(self.ending(how, claim))

        with ThreadPoolExecutor(len(others) + 1) as pool:
            list(pool.map(act, ["complete", *others]))
        sql = "SELECT outcome FROM hpo.attempts WHERE attempt_id = :a AND ended_at IS NOT NULL"
        outcome = self.do(lambda c: c.execute(text(sql), {"a": claim.attempt_id}).scalar_one())
        how = {"lost": "lose", "released": "release"}.get(outcome, outcome)
        # A prefetched attempt is released, not lost.
        self.ended("lose" if how == "release" and claim.attempt_id in self.ahead else how, claim)
        if "reap" in others:
            self.ended("reap", claim)

    @invariant()
    def books_balance(self) -> None:
        if not hasattr(self, "live"):
            return
        counts = self.do(lambda c: budget.count(c, 1))
        assert counts.budget == self.trials
        assert counts.held == len(self.live)
        assert (counts.waiting, counts.paused) == (len(self.waiting), len(self.frozen))
        assert counts.finished == self.finished
        assert counts.finished + counts.held <= self.trials, "the budget is exceeded"
        assert counts.failed == sum(outcome in FAILURES for outcome in self.settled.values())

    @invariant()
    def rows_agree(self) -> None:
        """Train until the budget is spent."""
        if not hasattr(self, "live"):
            return
        trials, attempts, epochs = self.do(_rows)
        reached: dict[int, int] = {}
        for reservation_id, epoch in self.snapshot:
            reached[reservation_id] = max(epoch, reached.get(reservation_id, 0))
        assert trials == {
            (
                reservation_id,
                ordinal,
                self.settled.get(reservation_id),
                self.lost.get(reservation_id, 0),
                reached.get(reservation_id, 0),
            )
            for reservation_id, ordinal in self.ordinals.items()
        }
        assert attempts == {(attempt, claim.reservation_id) for attempt, claim in self.live.items()}
        assert epochs == {(*key, attempt, float(attempt)) for key, attempt in self.snapshot.items()}

    def teardown(self) -> None:
        """One more agent always brings the study to exactly its budget."""
        if not hasattr(self, "live"):
            return
        for attempt_id in list(self.live):
            self.do(lambda c, a=attempt_id: leases.release(c, a))  # type: ignore[misc]
        agent = self.join()
        while isinstance(
            got := self.do(lambda c: claims.claim(c, 1, agent, "host", 0, "cpu:0", LEASE)), Claim
        ):
            self.do(lambda c, a=got.attempt_id: leases.settle(c, a, Outcome.COMPLETE, 0.5))  # type: ignore[misc]
        assert got is NoWork.DONE
        counts = self.do(lambda c: budget.count(c, 1))
        assert (counts.finished, counts.held, counts.waiting, counts.paused) == (self.trials, 0, 0, 0)


def _fresh_study(connection: Connection, freezes: bool) -> None:
    connection.execute(text("DELETE FROM hpo.studies"))
    connection.execute(text("TRUNCATE public.studies CASCADE"))
    connection.execute(text("INSERT INTO public.studies (study_id, study_name) VALUES (1, 's')"))
    connection.execute(
        text(
            "INSERT INTO hpo.studies (study_id, name, spec, budget) VALUES (1, 's', CAST(:spec AS json), 1)"
        ),
        {"spec": json.dumps({"seed": 0} | ({"pruner": "freeze-thaw", "epochs": EPOCHS} if freezes else {}))},
    )


def _rows(connection: Connection) -> tuple[set[Any], set[Any], set[Any]]:
    """All trials, live attempts and epochs."""
    trials = connection.execute(text("SELECT reservation_id, ordinal, outcome, lost, epochs FROM hpo.trials"))
    attempts = connection.execute(
        text("SELECT attempt_id, reservation_id FROM hpo.attempts WHERE ended_at IS NULL")
    )
    epochs = connection.execute(
        text("SELECT reservation_id, epoch, attempt_id, (metrics->>'loss')::float FROM hpo.epochs")
    )
    return {tuple(row) for row in trials}, {tuple(row) for row in attempts}, {tuple(row) for row in epochs}


@pytest.mark.usefixtures("thirds")
def test_any_order_of_events_keeps_the_records_consistent(storage_url: str) -> None:
    with open_database(storage_url, Path("unused")) as database:
        machine = type("StudyDriverHere", (StudyDriver,), {"database": database})
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
