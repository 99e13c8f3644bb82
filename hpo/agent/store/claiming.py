"""Claims of an agent: in one round trip where only a new trial can be next, else step by step."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hpo.agent.store.study_session import StudySession
from hpo.process.identity import host_name
from hpo.search.optuna_study import Search
from hpo.search.pruners import freeze_thaw_of
from hpo.search.spec import StudySpec
from storage.claiming import claims, fresh_claims
from storage.claiming.claims import Claim, NoWork

if TYPE_CHECKING:
    from hpo.agent.store.advisor import Advisor


class Claiming:
    """Claims trials of one study for one agent."""

    def __init__(
        self,
        session: StudySession,
        study_id: int,
        spec: StudySpec,
        search: Search,
        advisor: Advisor | None,
        *,
        agent_id: int,
        lease_seconds: float,
    ) -> None:
        self._session = session
        self._agent = (study_id, agent_id, host_name())
        self._lease_seconds = lease_seconds
        self._epochs = spec.epochs
        self._contains = spec.contains if spec.space_changed else None
        self._search = search
        self._advisor = advisor
        self._may_pause = freeze_thaw_of(spec) is not None

    def claim(self, slot: int, device: str) -> Claim | NoWork:
        """Reserve a trial for a slot, or return the reason why there is none."""
        place = (*self._agent, slot, device, self._lease_seconds)
        if not self._may_pause:
            first = self._search.first_attributes
            fresh = self._session.statement(fresh_claims.claim, *place, epochs=self._epochs, first=first)
            if fresh is not None:
                return fresh
        return self._session.write(
            claims.claim,
            *place,
            contains=self._contains,
            epochs=self._epochs,
            advice=None if self._advisor is None else self._advisor.advice(),
        )
