"""When a lane host is replaced: once its memory has grown by more than what trials to come may use again."""

from __future__ import annotations

from multiprocessing import Pipe
from typing import cast

import pytest

from hpo.trainer.lanes import host as host_module
from hpo.trainer.lanes.host import ATTEMPTS_PER_LANE, MOST_GROWTH_BYTES, LaneHost
from hpo.trainer.lanes.output import LaneOutput
from hpo.trainer.lanes.places import Threads
from objectives.base import Objective

LANES = 3


class Memory(Threads):
    """Places that keep memory for attempts to come."""

    used, kept, dropped = 1000, 0, 0

    def drop_idle(self) -> None:
        self.kept = 0
        self.dropped += 1


@pytest.fixture
def memory() -> Memory:
    return Memory()


@pytest.fixture
def host(memory: Memory, monkeypatch: pytest.MonkeyPatch) -> LaneHost:
    ours, theirs = Pipe()
    ours.close(), theirs.close()
    monkeypatch.setattr(host_module, "_memory", lambda: memory.used + memory.kept)
    made = LaneHost(theirs, lambda: (cast(Objective, object()), memory), LANES, LaneOutput())
    made._places = memory
    return made


def test_memory_of_the_first_attempt_of_each_lane_is_no_growth(host: LaneHost, memory: Memory) -> None:
    for _ in range(LANES):
        memory.used += MOST_GROWTH_BYTES
        assert not host._retires()
    memory.used += MOST_GROWTH_BYTES
    assert not host._retires()
    assert memory.dropped == 0
    memory.used += 1
    assert host._retires()


def test_memory_that_is_kept_for_attempts_to_come_is_given_back_first(host: LaneHost, memory: Memory) -> None:
    for _ in range(LANES):
        host._retires()
    memory.kept = MOST_GROWTH_BYTES + 1
    assert not host._retires()
    assert (memory.kept, memory.dropped) == (0, 1)


def test_many_lanes_may_grow_by_more(host: LaneHost, memory: Memory) -> None:
    host._lanes = 16
    for _ in range(16):
        host._retires()
    memory.used += 4 * MOST_GROWTH_BYTES
    assert not host._retires()
    memory.used += 1
    assert host._retires()


def test_host_whose_device_has_failed_is_replaced(host: LaneHost, memory: Memory) -> None:
    assert not host._retires()
    memory.broken = True
    assert host._retires()


def test_host_is_replaced_after_many_attempts(host: LaneHost) -> None:
    ends = [host._retires() for _ in range(ATTEMPTS_PER_LANE * LANES)]
    assert ends.index(True) == len(ends) - 1
