"""The short form of the chaos suite; `make soak` runs it for as long as asked."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest

from tests.acceptance.faults import trace
from tests.acceptance.faults.chaos import Chaos
from tests.acceptance.faults.schedule import FAULTS, QUICK, Schedule
from tests.acceptance.hpo_commands import HpoCommands


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder open to all, because root's database server runs as another user."""
    with tempfile.TemporaryDirectory(prefix="hpo-chaos-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.mark.parametrize("seed", [20260101])
def test_records_are_consistent_under_random_faults(folder: Path, commands: HpoCommands, seed: int) -> None:
    chaos = Chaos(folder, seed, 40, QUICK, commands)
    try:
        report = chaos.run()
        chaos.check()
    finally:
        survivors = chaos.close()
    assert not survivors, survivors
    assert set(report.faults) == set(QUICK), report
    assert min(report.during_cuts, report.fenced) > 0, report


def faults(seed: int) -> Iterator[str]:
    schedule = Schedule(seed, FAULTS)
    while True:
        yield schedule.next()
        # The order does not depend on the number of tries or their duration.
        schedule.pause(0.0, 1.0)
        assert schedule.next() == schedule.next()
        schedule.done()


def test_seed_fixes_the_order_of_faults() -> None:
    first, second, other = (list(islice(faults(seed), 100)) for seed in (1, 1, 2))
    assert first == second != other
    # A deck at a time: every kind occurs soon.
    assert {kind: first[: sum(FAULTS.values())].count(kind) for kind in FAULTS} == FAULTS


def traced(*lines: str) -> list[trace.Note]:
    """Return notes of one trial: in `A2` process A resumes after epoch 2, in `a3` it has trained epoch 3."""
    words = {True: "after", False: "trained"}
    return [trace.Note(7, ord(line[0].lower()), words[line[0].isupper()], int(line[1:])) for line in lines]


def test_attempt_may_lose_its_last_epoch() -> None:
    costs = trace.costs(traced("A0", "a1", "a2", "B1", "b2", "C2", "c3", "D3"))
    assert (costs.again, costs.unsaved, costs.late, costs.contested) == (1, 1, 0, set())
    assert costs.resumed == {(7, ord(name)): epoch for name, epoch in zip("abcd", (0, 1, 2, 3), strict=True)}


@pytest.mark.parametrize(
    "lines",
    [
        # It resumes from the beginning or from two epochs before: a checkpoint was lost.
        ("A0", "a1", "a2", "B0"),
        ("A0", "a1", "B1", "b2", "b3", "b4", "C2"),
        # Nothing was trained since, so nothing can have been lost.
        ("A0", "a1", "B1", "C0"),
        # It resumes from an epoch that was not trained, or repeats one within an attempt.
        ("A0", "a1", "B2"),
        ("A0", "a1", "a1"),
    ],
)
def test_attempt_that_resumes_from_wrong_epoch_is_detected(lines: tuple[str, ...]) -> None:
    with pytest.raises(AssertionError):
        trace.costs(traced(*lines))


@pytest.mark.parametrize(
    "lines", [("A0", "a1", "a2", "B0"), ("A0", "a1", "a2", "a3", "a4", "a5", "B3", "b4", "C3")]
)
def test_attempt_resumes_after_its_last_saved_epoch(lines: tuple[str, ...]) -> None:
    def every_third(_seed: int, epoch: int) -> int:
        return epoch - epoch % 3

    trace.costs(traced(*lines), (), every_third)
    for wrong in ("D1", "D4", "D6"):
        with pytest.raises(AssertionError):
            trace.costs(traced(*lines, wrong), (), every_third)


def test_reopened_trial_may_begin_at_epoch_1_once() -> None:
    lines = traced("A0", "a1", "a2", "a3", "B0", "b1", "b2", "C2")
    trace.costs(lines, reopened={(7, ord("a"))})
    for others in ((), {(7, ord("b"))}, {(8, ord("a"))}):
        with pytest.raises(AssertionError):
            trace.costs(lines, reopened=others)
    for wrong in ("D0", "D1"):
        with pytest.raises(AssertionError):
            trace.costs(
                traced("A0", "a1", "a2", "a3", "B0", "b1", "b2", "b3", wrong), reopened={(7, ord("a"))}
            )
    with pytest.raises(AssertionError):
        trace.costs(traced("A0", "a1", "a2", "a3", "B1"), reopened={(7, ord("a"))})


def test_cut_off_attempt_may_overlap_its_successor() -> None:
    """Its checkpoint of epoch 3 is older than its successor's, and takes that away."""
    lines = traced("A0", "a1", "a2", "B2", "b3", "b4", "a3", "b5", "C3", "c4")
    costs = trace.costs(lines, cut_off={ord("a")})
    assert (costs.again, costs.late, costs.contested) == (2, 1, {7})
