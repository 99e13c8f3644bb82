"""The memory of trials, as a plan measures it."""

from __future__ import annotations

import os

import pytest

from hpo.planning.memory import MemoryWatch


def test_trials_in_one_process_have_a_part_of_its_memory_each() -> None:
    found = []
    for trials in (1, 4):
        watch = MemoryWatch()
        watch.sample([os.getpid()] * trials)
        assert watch.highest is not None
        found.append(watch.highest.each)
    assert found[1] == pytest.approx(found[0] / 4, rel=0.2)
