"""A study with agents, for tests of its budget and its leases."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from sqlalchemy import Connection, Row, text

from storage import agents, attempts, budget, leases
from storage.budget import Counts
from storage.claiming import claims, fresh_claims
from storage.claiming.claims import Claim, NoWork
from storage.engine import Database
from tests.integration.rows import StudyRows

T = TypeVar("T")

LEASE = 60.0


def reap_all(connection: Connection, study_id: int, max_lost: int) -> int:
    """End expired leases at once, without the observation window of an agent."""
    return leases.reap(connection, leases.suspects(connection, study_id), max_lost)


class StudyDriver:
    """A study with an agent; each method is one transaction."""

    def __init__(self, database: Database, trials: int = 3) -> None:
        self.database = database
        self.study_id = StudyRows(database, budget=trials).study_id
        self.agent_id = self.join()

    def join(self, host: str = "here", pid: int = 1, process: str = "boot:1:1.00") -> int:
        agent_id = self.do(agents.new_agent_id)
        self.do(agents.join, agent_id, self.study_id, host, pid, process, 2, {})
        return agent_id

    def claim(self, slot: int = 0, agent: int | None = None, lease: float = 60.0) -> Claim | NoWork:
        agent_id = self.agent_id if agent is None else agent
        place = (self.study_id, agent_id, "here", slot, f"cpu:{slot}", lease)
        # As an agent does.
        return self.do(fresh_claims.claim, *place) or self.do(claims.claim, *place)

    def claimed(self, slot: int = 0, agent: int | None = None, lease: float = 60.0) -> Claim:
        claim = self.claim(slot, agent, lease)
        assert isinstance(claim, Claim), claim
        return claim

    def record(self, claim: Claim, *epochs: tuple[int, float]) -> dict[int, dict[str, float]]:
        return self.do(
            attempts.record, claim.attempt_id, [(epoch, {"loss": loss}, 0.1) for epoch, loss in epochs]
        )

    def count(self) -> Counts:
        return self.do(budget.count, self.study_id)

    def trial(self, claim: Claim) -> Row[Any]:
        return self.row("SELECT * FROM hpo.trials WHERE reservation_id = :id", claim.reservation_id)

    def attempt(self, claim: Claim) -> Row[Any]:
        return self.row("SELECT * FROM hpo.attempts WHERE attempt_id = :id", claim.attempt_id)

    def row(self, sql: str, id: int) -> Row[Any]:
        return self.database.transaction(lambda c: c.execute(text(sql), {"id": id}).one())

    def expire(self, claim: Claim) -> None:
        """Let the claim's lease have run out a second ago, by the database's clock."""
        sql = "UPDATE hpo.attempts SET lease_until = clock_timestamp() - interval '1 second' WHERE attempt_id = :a"
        self.database.transaction(lambda c: c.execute(text(sql), {"a": claim.attempt_id}))

    def do(self, call: Callable[..., T], *arguments: Any) -> T:
        return self.database.transaction(lambda c: call(c, *arguments))
