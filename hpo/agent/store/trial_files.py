"""The database's view of a study's files on an agent's host: logs, and the folders of trials."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from hpo.agent.store.study_session import StudySession
from storage import attempts, reservations
from storage.engine import Connection
from storage.reservations import OpenReservations


class TrialFiles:
    """Which files agents still need, and locks that keep other agents from them."""

    def __init__(self, session: StudySession, study_id: int) -> None:
        self._session = session
        self._study_id = study_id

    def orphaned_logs(self, attempt_ids: Sequence[int], seconds: float) -> dict[tuple[int, int], bool]:
        """Return for each attempt, by trial number and id, whether its agent no longer writes its log."""
        return self._session.write(attempts.orphaned_logs, self._study_id, attempt_ids, seconds)

    def keep_log(self, attempt_id: int, tail: str, size: int) -> None:
        self._session.write(attempts.keep_log, attempt_id, tail, size)

    def open_reservations(self) -> OpenReservations:
        """Return the study's open trials."""
        return self._session.write(reservations.open_reservations, self._study_id)

    def while_waiting(self, reservation_id: int, act: Callable[[], None]) -> bool:
        """Call `act` on a trial's files while no agent can begin it; return False if one holds it."""

        def locked(c: Connection) -> bool:
            waiting = reservations.lock_waiting(c, self._study_id, reservation_id)
            if waiting:
                act()
            return waiting

        return self._session.write(locked)

    def while_ended(self, reservation_ids: Collection[int], act: Callable[[Collection[int]], None]) -> None:
        """Call `act` on those of the reservations that are not open, while none of them can be reopened."""

        def locked(c: Connection) -> None:
            act(reservations.lock_ended(c, self._study_id, reservation_ids))

        self._session.write(locked)

    def while_held(self, attempt_id: int, act: Callable[[], None]) -> None:
        """Call `act` on a trial's files while no agent can take it over.

        Raises:
            LeaseLostError: another agent has taken it over.
        """

        def guarded(c: Connection) -> None:
            attempts.guard(c, attempt_id)
            act()

        self._session.write(guarded)
