"""Files of trials as the fake store knows them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from hpo.agent.store.testing.study import FakeStudy
from storage.reservations import OpenReservations


class FakeTrialFiles:
    """A `TrialFiles` without a database."""

    def __init__(self, study: FakeStudy) -> None:
        self.study = study

    def orphaned_logs(self, attempts: Sequence[int], seconds: float) -> dict[tuple[int, int], bool]:  # noqa: ARG002
        known = [attempt for attempt in self.study.attempts if attempt.attempt_id in attempts]
        return {(one.trial.number, one.attempt_id): not one.open for one in known}

    def keep_log(self, attempt_id: int, tail: str, size: int) -> None:  # noqa: ARG002
        self.study.logs[attempt_id] = tail

    def open_reservations(self) -> OpenReservations:
        idle = self.study.undecided(running=False)
        return OpenReservations(
            frozenset(trial.reservation_id for trial in self.study.undecided(running=True)),
            tuple(trial.reservation_id for trial in idle if trial.paused),
            frozenset(trial.reservation_id for trial in idle if not trial.paused),
        )

    def while_waiting(self, reservation_id: int, act: Callable[[], None]) -> bool:
        waiting = reservation_id in self.open_reservations().idle
        if waiting:
            act()
        return waiting

    def while_ended(self, reservation_ids: Collection[int], act: Callable[[Collection[int]], None]) -> None:
        still_open = self.open_reservations()
        act([one for one in reservation_ids if one not in still_open])

    def while_held(self, attempt_id: int, act: Callable[[], None]) -> None:
        self.study.guard(attempt_id)
        act()
