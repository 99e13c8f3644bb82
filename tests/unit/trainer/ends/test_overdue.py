"""Silent trainers: of several attempts of one process, none is at fault for what may be the process's own silence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import pytest

from hpo.outcomes import Outcome
from hpo.trainer.ends.overdue import OverdueTrainers
from hpo.trainer.ends.shared_ends import SharedEnds
from hpo.trainer.pool import TrainerPool
from hpo.trainer.testing import FakePool, start_message
from hpo.trainer.workload import SupervisedRun, Workload

LIMIT = 100.0
NOW = 1000.0


class Ends:
    """A workload that keeps how its runs ended."""

    def __init__(self, in_slots: dict[int, SupervisedRun]) -> None:
        self.told: dict[int, str] = {}
        self._in_slots = in_slots

    def _end(self, slot: int, how: str) -> None:
        del self._in_slots[slot]
        self.told[slot] = how

    def on_lost(self, slot: int, _run: SupervisedRun, _reason: str, outcome: Outcome) -> None:
        self._end(slot, outcome)

    def on_killed(self, slot: int, _run: SupervisedRun) -> None:
        self._end(slot, "killed")

    def release(self, slot: int, _run: SupervisedRun, reason: str | None = None) -> None:
        self._end(slot, "released" if reason else "not forked")


@pytest.mark.parametrize(
    ("silences", "shared", "told"),
    [
        pytest.param([101, 60, 50], {0, 1, 2}, {0: "released", 1: "released", 2: "released"}, id="all"),
        pytest.param([101, 49, 60], {0, 1, 2}, {0: "released", 2: "released"}, id="some"),
        pytest.param([101, 49, 1], {0, 1, 2}, {0: Outcome.HUNG}, id="one"),
        pytest.param([101, 99, 1], set(), {0: Outcome.HUNG}, id="processes of their own"),
        pytest.param([1, 99, 101], {0, 1}, {2: Outcome.HUNG}, id="neighbours of another process"),
        pytest.param([99, 99, 99], {0, 1, 2}, {}, id="none for too long"),
    ],
)
def test_neighbours_that_are_silent_for_half_the_time_are_judged_with_the_first(
    silences: Sequence[float], shared: set[int], told: dict[int, str]
) -> None:
    pool, in_slots = FakePool(slots=3, shared=frozenset(shared)), {}
    for slot, silence in enumerate(silences):
        pool.start(slot, start_message())
        in_slots[slot] = SupervisedRun(heard_at=NOW - silence, place=str(slot))
    ends, shared_ends = Ends(in_slots), SharedEnds()
    overdue = OverdueTrainers(cast(TrainerPool, pool), in_slots, LIMIT, shared_ends)
    overdue.end_silent(cast("Workload[SupervisedRun]", ends), NOW)
    assert ends.told == told
    assert sorted(pool.killed) == sorted(told)
