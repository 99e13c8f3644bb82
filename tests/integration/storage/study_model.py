"""A model of a study's budget and leases after the actions of agents, in a few sets without a database."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, TypeVar

from sqlalchemy import Connection

from hpo.outcomes import COUNTED, Outcome
from hpo.search.freeze_thaw import FreezeThaw
from storage import agents, attempts, leases
from storage.attempts import LeaseLostError
from storage.claiming import claims, fresh_claims
from storage.claiming.claims import Claim, NoWork
from tests.integration.storage.study_driver import reap_all

T = TypeVar("T")
Work = Callable[[Connection], T]

MAX_LOST = 3
LEASE = 3600.0

ENDINGS = ("complete", "bug", "lose", "release", "reap", "leave", "reap_agent")
"""How an attempt ends, by its agent or by another: see `ending`."""
OF_ALL = ("leave", "reap_agent")
"""Those that end all that its agent holds."""


class StudyDriverModel:
    """The work of agents, and the expected effects of each; nothing here looks into the database."""

    def expect_nothing(self, trials: int, rule: FreezeThaw | None = None) -> None:
        """A study that nobody has begun; with a rule, its trials pause at their only rung."""
        self.trials = trials
        self.rule = rule
        self.scores: dict[int, int] = {}
        """Scores at the rung, by reservation_id."""
        self.paused: set[int] = set()
        """Reservations that are paused; attempts of some of them are still live."""
        self.left_paused: set[int] = set()
        """Settled shares that were paused until the end."""
        self.slots = 0
        self.live: dict[int, Claim] = {}
        """Attempts that may report, by id."""
        self.owners: dict[int, int] = {}
        """Whose attempt it is, of all."""
        self.ordinals: dict[int, int] = {}
        """Ordinals by reservation_id: the earliest reservation is resumed first."""
        self.settled: dict[int, str] = {}
        """Outcome of each share that was decided, by reservation_id."""
        self.ahead: set[int] = set()
        """Prefetched attempts that have no slot yet."""
        self.spares: set[int] = set()
        """Those of them that were sampled: an idle agent may take them."""
        self.overdue: set[int] = set()
        """Live attempts whose leases have run out."""
        self.lost: dict[int, int] = {}
        """How often the attempts of a share were lost, by reservation_id."""
        self.snapshot: dict[tuple[int, int], int] = {}
        """Attempt whose report of an epoch is valid, by reservation_id and epoch: the last one that reported it."""

    @property
    def finished(self) -> int:
        return sum(outcome in COUNTED for outcome in self.settled.values())

    @property
    def begun(self) -> int:
        """Shares that count towards the budget, or will."""
        return self.finished + len(self.ordinals.keys() - self.settled.keys())

    @property
    def waiting(self) -> set[int]:
        """Open shares that no agent holds and that are not paused."""
        held = {claim.reservation_id for claim in self.live.values()}
        return self.ordinals.keys() - self.settled.keys() - held - self.paused

    @property
    def frozen(self) -> set[int]:
        """Paused shares that no agent holds."""
        return self.paused - {claim.reservation_id for claim in self.live.values()}

    def judged(self, claim: Claim, score: int) -> bool:
        """Record a score at the rung, the first time; return whether the trial is paused then."""
        reservation_id = claim.reservation_id
        if reservation_id in self.scores:
            if reservation_id not in self.paused:
                # Trained again.
                self.scores[reservation_id] = score
            return reservation_id in self.paused
        self.scores[reservation_id] = score
        if not self._is_promoted(reservation_id):
            self.paused.add(reservation_id)
        return reservation_id in self.paused

    def _is_promoted(self, reservation_id: int) -> bool:
        own = (self.scores[reservation_id], reservation_id)
        rank = sum((score, other) < own for other, score in self.scores.items())
        return rank < len(self.scores) // 3

    def _thawed(self) -> int | None:
        """Paused share that goes on at a claim."""
        best = min(self.frozen, key=lambda one: (self.scores[one], one), default=None)
        if best is None:
            return None
        ends = not self.live and self.begun >= self.trials and "complete" not in self.settled.values()
        return best if self._is_promoted(best) or ends else None

    def expect(self, agent: int, ahead: bool = False, locked: Collection[int] = ()) -> NoWork | int | None:
        """Expected result of a claim: the reason without work, a reservation_id, or None for a new reservation.

        `locked`: attempts that somebody is dealing with, and that nobody is to wait for.
        """
        if self.trials <= self.finished:
            return NoWork.DONE
        if len(self.live) < self.trials - self.finished:
            if self.waiting:
                return min(self.waiting, key=self.ordinals.__getitem__)
            if (thawed := self._thawed()) is not None:
                return thawed
            if self.begun < self.trials:
                return None
            if self.rule is not None and not self.live:
                return NoWork.DONE
        idle = {spare for spare in self.spares - set(locked) if self.owners[spare] != agent}
        return self.live[max(idle)].reservation_id if idle and not ahead else NoWork.ELSEWHERE

    def claimed(
        self,
        agent: int,
        got: Claim | NoWork | LeaseLostError,
        expected: NoWork | int | None,
        ahead: bool = False,
    ) -> Claim | None:
        """Check the result of a claim and record it; None if there was no work.

        Not nothing: how many things a machine draws from must not depend on who wins a race.
        """
        if isinstance(expected, NoWork):
            assert got is expected
            if got is NoWork.DONE:
                self.end_frozen()
            return None
        assert isinstance(got, Claim)
        assert got.fresh == (expected is None)
        assert expected in (None, got.reservation_id)
        self.hold(agent, got, ahead)
        return got

    def end_frozen(self) -> None:
        """Nothing is left to train, so that paused shares count as pruned."""
        self.settled |= dict.fromkeys(self.frozen, "pruned")
        self.left_paused |= self.frozen
        self.paused.clear()

    def reopen(self) -> int:
        """Pause the shares again that ended paused, if the budget has room; return their number."""
        if self.rule is None or self.trials <= self.finished:
            return 0
        reopened, self.left_paused = self.left_paused, set()
        for share in reopened:
            del self.settled[share]
        self.paused |= reopened
        return len(reopened)

    def hold(self, agent: int, claim: Claim, ahead: bool = False) -> None:
        """An agent has a claim, which an idle one may have taken from another."""
        for spare in list(self.spares):
            if (
                self.live[spare].reservation_id == claim.reservation_id
                and self.owners[spare] != agent
                and not ahead
            ):
                self.drop(spare)
        assert claim.attempt_id not in self.owners, "the same attempt for two"
        assert claim.reservation_id not in {other.reservation_id for other in self.live.values()}, (
            "trained twice at once"
        )
        assert claim.reservation_id not in self.settled, "a settled share was handed out again"
        self.live[claim.attempt_id] = claim
        self.paused.discard(claim.reservation_id)
        self.owners[claim.attempt_id] = agent
        self.ordinals[claim.reservation_id] = claim.ordinal
        if ahead:
            self.ahead.add(claim.attempt_id)
            if claim.params is not None:
                self.spares.add(claim.attempt_id)

    def of(self, agent: int) -> set[int]:
        """Attempts that an agent holds."""
        return {attempt for attempt in self.live if self.owners[attempt] == agent}

    def drop(self, attempt: int) -> Claim:
        """It has ended, and may not report any more."""
        for held in (self.spares, self.overdue):
            held.discard(attempt)
        return self.live.pop(attempt)

    def loss_of(self, attempt: int) -> None:
        reservation_id = self.drop(attempt).reservation_id
        if attempt in self.ahead or reservation_id in self.paused:
            return
        self.lost[reservation_id] = self.lost.get(reservation_id, 0) + 1
        if self.lost[reservation_id] == MAX_LOST:
            self.settled[reservation_id] = "lost"

    def ending(self, how: str, claim: Claim) -> Work[object]:
        """Return the write by which its agent, or another, ends an attempt."""
        attempt, owner = claim.attempt_id, self.owners[claim.attempt_id]
        works: dict[str, Work[object]] = {
            "lose": lambda c: leases.lose(c, attempt, "killed", MAX_LOST),
            "release": lambda c: leases.release(c, attempt),
            "reap": lambda c: reap_all(c, 1, MAX_LOST),
            "leave": lambda c: agents.leave(c, owner),
            "reap_agent": lambda c: agents.reap_agent(c, owner, MAX_LOST),
        }
        return works.get(how, lambda c: leases.settle(c, attempt, Outcome(how), 0.5))

    def ended(self, how: str, claim: Claim, but: Collection[int] = ()) -> None:
        """Expected state after an end; `but` lists attempts that it did not change."""
        attempts = {claim.attempt_id}
        if how in OF_ALL:
            attempts = self.of(self.owners[claim.attempt_id])
        elif how == "reap":
            attempts = set(self.overdue)
        for attempt in attempts & self.live.keys() - set(but):
            match how:
                case "lose" | "reap" | "reap_agent":
                    self.loss_of(attempt)
                case "release" | "leave":
                    self.drop(attempt)
                case outcome:
                    reservation_id = self.drop(attempt).reservation_id
                    self.settled[reservation_id] = outcome
                    self.paused.discard(reservation_id)

    def is_live(self, claim: Claim | None) -> bool:
        return claim is not None and claim.attempt_id in self.live

    def pick(self, nth: int) -> Claim | None:
        """A live attempt, if any: of all that there ever were, most have ended.

        No precondition of a rule: whether it holds may depend on who won a race.
        """
        return self.live[sorted(self.live)[nth % len(self.live)]] if self.live else None

    # Actions of agents and their effects.

    def claiming(self, agent: int, device: str = "cpu:0") -> Work[Claim | NoWork]:
        self.slots += 1
        slot = self.slots
        place = (1, agent, "host", slot, device, LEASE)
        return lambda c: fresh_claims.claim(c, *place) or claims.claim(c, *place)

    def writing(self, kind: str, claim: Claim, epoch: int = 1) -> Work[Any]:
        """Writes of an agent for an attempt."""
        attempt = claim.attempt_id
        # Where none was created, an id that no created one has.
        trial_id = claim.trial_id or 10**6 + claim.reservation_id
        self.slots += 1
        slot = self.slots
        works: dict[str, Work[Any]] = {
            "record": lambda c: attempts.record(c, attempt, [(epoch, {"loss": float(attempt)}, 0.1)]),
            "attach": lambda c: attempts.attach(c, attempt, trial_id, claim.ordinal, {"x": 1.0}),
            "place": lambda c: attempts.place(c, attempt, slot, "cpu:0"),
            "begin": lambda c: attempts.begin(c, attempt, 123, 0),
        }
        return works[kind]

    def written(self, kind: str, claim: Claim, epoch: int = 1) -> None:
        match kind:
            case "record":
                self.snapshot[claim.reservation_id, epoch] = claim.attempt_id
            case "begin":
                for key in [key for key in self.snapshot if key[0] == claim.reservation_id]:
                    del self.snapshot[key]
            case "attach":
                self.spares |= {claim.attempt_id} & self.ahead
            case "place":
                self.ahead.discard(claim.attempt_id)
                self.spares.discard(claim.attempt_id)
