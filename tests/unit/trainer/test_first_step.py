"""The report of runs that take no first step."""

from __future__ import annotations

import pytest

from hpo.trainer.ends.exits import Event
from hpo.trainer.first_step import FIRST_STEP_SECONDS, FirstStepWatch
from hpo.trainer.messages import Epoch, EpochRecord, Started, Suggest, Tick
from hpo.trainer.workload import SupervisedRun

LOADING, STEP = Tick(1, 0.0, 0.0), Tick(1, 0.25, 10.0)


def started(watch: FirstStepWatch, now: float = 0.0) -> SupervisedRun:
    run = SupervisedRun()
    watch.note(run, Started(1, 0), now)
    return run


@pytest.mark.parametrize(
    ("events", "cause"),
    [
        ([], "it may be compiling its model or waiting for data, or be blocked"),
        ([LOADING], "it is still loading"),
    ],
)
def test_run_without_a_first_step_is_reported_once(
    caplog: pytest.LogCaptureFixture, events: list[Event], cause: str
) -> None:
    watch = FirstStepWatch()
    run = started(watch)
    for event in events:
        watch.note(run, event, 1.0)
    watch.report([run], FIRST_STEP_SECONDS - 1, 4000.0)
    assert (caplog.messages, run.note) == ([], "")
    for now in (FIRST_STEP_SECONDS, 2 * FIRST_STEP_SECONDS):
        watch.report([run], now, 4000.0)
    assert run.note == "no step yet: hpo logs"
    (message,) = caplog.messages
    assert message.startswith(f"has taken no step in 120 s since its start: {cause}")
    assert "hpo logs" in message
    assert "--hung-after to end it sooner than after 1h06m" in message


@pytest.mark.parametrize("event", [STEP, Epoch(EpochRecord(1, {}, 1.0)), Suggest("x", "{}")])
def test_run_that_has_taken_a_step_is_not_reported(caplog: pytest.LogCaptureFixture, event: Event) -> None:
    watch = FirstStepWatch()
    run = started(watch)
    watch.note(run, event, 1.0)
    watch.report([run], 1e6, 4000.0)
    assert (caplog.messages, run.note) == ([], "")


def test_objective_that_begins_late_is_reported_no_more(caplog: pytest.LogCaptureFixture) -> None:
    watch = FirstStepWatch()
    late, next_one = started(watch), started(watch, 1.0)
    watch.report([late], FIRST_STEP_SECONDS, 4000.0)
    watch.note(late, STEP, 200.0)
    watch.report([late, next_one], 300.0, 4000.0)
    assert len(caplog.messages) == 1
    assert late.note == next_one.note == ""


def test_pause_does_not_count_as_waiting(caplog: pytest.LogCaptureFixture) -> None:
    watch = FirstStepWatch()
    run = started(watch)
    watch.restart(run, 1000.0)
    watch.report([run], 1000.0 + FIRST_STEP_SECONDS - 1, 4000.0)
    assert not caplog.messages
    watch.report([run], 1000.0 + FIRST_STEP_SECONDS, 4000.0)
    assert len(caplog.messages) == 1
