"""The run in memory behaves as `Run` documents."""

from __future__ import annotations

import pytest

from objectives.errors import MetricMissingError
from objectives.local_run import LocalRun


def work(run: LocalRun) -> list[int]:
    done = []
    for epoch in run.epochs():
        run.tick(1, 1, 10)
        run.save({"epoch": epoch})
        run.report(loss=1 / epoch)
        done.append(epoch)
    return done


def test_epochs_count_from_one():
    run = LocalRun(total_epochs=3)
    assert work(run) == [1, 2, 3]
    assert [entry["loss"] for entry in run.history] == [1, 1 / 2, 1 / 3]
    assert run.ticks == [(1, 1, 10)] * 3


def test_run_resumes_another_runs_checkpoint():
    first = LocalRun(total_epochs=5, stop_after=2)
    assert (work(first), first.state) == ([1, 2], None)
    second = LocalRun(total_epochs=5, resume=first.checkpoint)
    assert second.state == {"epoch": 2}
    assert work(second) == [3, 4, 5]
    assert work(LocalRun(total_epochs=5, resume=second.checkpoint)) == []


def test_epoch_without_saved_state_leaves_no_checkpoint():
    run = LocalRun(total_epochs=2)
    for _ in run.epochs():
        run.report(loss=0.0)
    assert run.checkpoint is None


def test_missing_metric_is_refused():
    run = LocalRun(total_epochs=1, metric="accuracy")
    with pytest.raises(MetricMissingError, match="'accuracy'"):
        work(run)
    assert len(work(LocalRun(total_epochs=1, metric="accuracy", final=True))) == 1


def test_results_and_messages_are_kept():
    run = LocalRun(total_epochs=1)
    run.record(test_accuracy=0.9)
    run.record(n_test=3)
    run.log("hello")
    assert (run.results, run.messages) == ({"test_accuracy": 0.9, "n_test": 3}, ["hello"])
