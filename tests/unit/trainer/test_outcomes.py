"""How trials end in a trainer."""

from __future__ import annotations

import asyncio
import errno
import math
import sys
from collections.abc import Callable
from dataclasses import replace
from io import StringIO
from typing import Any

import pytest
from optuna import TrialPruned

from hpo.outcomes import Outcome
from hpo.trainer import trainer
from hpo.trainer.ends import outcome as outcome_module
from hpo.trainer.messages import Continue, Epoch, Finished
from hpo.trainer.pipe import decode, encode
from hpo.trainer.run import TrainerRun
from hpo.trainer.testing import prepared, start_message
from objectives import values
from objectives.base import Objective, Params, Run
from objectives.device import Device
from objectives.errors import DivergedError, Infeasible
from tests.odd_values import ODD_ERRORS
from tests.unit.trainer.agent_end import Agent


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", ["loss", "val_loss"])
def test_non_finite_loss_has_diverged(agent: Agent, name: str, value: float) -> None:
    run = agent.run()
    next(run.epochs())
    with pytest.raises(DivergedError, match=f"^{name} is .* after epoch 1"):
        run.report(**{"loss": 1.0, name: value})
    # Reported, but without a checkpoint to resume from.
    assert isinstance(agent.hear(), Epoch)
    assert list(agent.folder.rglob("*.npz")) == []


class Ill(Objective):
    """Raise `params["error"]` in the second epoch."""

    def train(self, params: Params, run: Run) -> None:
        for epoch in run.epochs():
            if epoch == 2:
                raise params["error"]
            run.report(loss=1.0)


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (DivergedError("nan"), "diverged"),
        (MemoryError("much"), "oom"),
        (Infeasible("no room for a kernel"), "infeasible"),
        (TrialPruned("hopeless"), "pruned"),
    ],
)
def test_saved_outcome_is_reported_again(agent: Agent, error: Exception, outcome: str) -> None:
    run = agent.run(epochs=3)
    agent.say(Continue(1))
    ended = trainer._outcome(prepared(Ill()), start_message(params={"error": error}), run)
    assert ended.outcome == outcome
    run.save_outcome(ended)
    # The agent dies; the objective would go on now.
    resumed = agent.run(epochs=3)
    assert resumed.earlier_outcome is not None
    assert (resumed.earlier_outcome.outcome, resumed.earlier_outcome.error) == (outcome, ended.error)
    assert [record.epoch for record in resumed.history] == [1]


def test_bug_is_retried_and_retrained_runs_save_no_outcome(agent: Agent) -> None:
    run = agent.run(epochs=3)
    agent.say(Continue(1))
    start = start_message(params={"error": ValueError("a bug")})
    run.save_outcome(trainer._outcome(prepared(Ill()), start, run))
    assert agent.run(epochs=3).earlier_outcome is None
    run.save_outcome(Finished(Outcome.PRUNED))
    assert agent.run(epochs=3).earlier_outcome is not None
    assert agent.run(epochs=3, saves_outcome=False).earlier_outcome is None


class Wordless(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (KeyboardInterrupt(), "KeyboardInterrupt"),
        (GeneratorExit(), "GeneratorExit"),
        (asyncio.CancelledError(), "CancelledError"),
        (Wordless(), "Wordless: its text cannot be shown: __str__ raised RuntimeError"),
        (ValueError("a\0\udcff"), "ValueError: a\\x00\\udcff"),
    ],
)
def test_any_exception_is_a_bug_with_a_reason(
    agent: Agent, monkeypatch: pytest.MonkeyPatch, error: BaseException, line: str
) -> None:
    run = agent.run(epochs=3)
    agent.say(Continue(1))
    # As user code may leave them.
    monkeypatch.setattr(sys, "stdout", None)
    closed = StringIO()
    closed.close()
    monkeypatch.setattr(sys, "stderr", closed)
    finished = trainer._outcome(prepared(Ill()), start_message(params={"error": error}), run)
    assert (finished.outcome, finished.error) == (Outcome.BUG, line)
    assert "Traceback" in finished.traceback


@pytest.mark.parametrize("make", ODD_ERRORS)
def test_exception_that_cannot_be_read_ends_its_own_trial(
    agent: Agent, make: Callable[[], BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outcome_module.os, "write", lambda _descriptor, content: len(content))
    finished = outcome_module._failed(make(), agent.run())
    assert finished.outcome in (Outcome.BUG, Outcome.OUT_OF_MEMORY)
    assert finished.error
    sent = decode(encode(finished))
    assert isinstance(sent, Finished)
    assert (sent.outcome, sent.error) == (finished.outcome, values.text(finished.error))


def test_reason_of_a_diverged_trial_may_be_any_text(agent: Agent) -> None:
    run = agent.run(epochs=3)
    agent.say(Continue(1))
    start = start_message(params={"error": DivergedError("NUL \0 " + "a" * 10_000)})
    finished = trainer._outcome(prepared(Ill()), start, run)
    assert finished.outcome == Outcome.DIVERGED
    assert finished.error.startswith("NUL \\x00 aaa")
    assert len(finished.error) <= 420


class Careless(Objective):
    """Raise an error after the loop, or leave or raise in the second epoch, in which it is asked to end."""

    def train(self, params: Params, run: Run) -> None:
        for epoch in run.epochs():
            run.report(loss=1.0)
            if epoch == 2:
                run.stop_outcome = params.get("stop")  # type: ignore[attr-defined]
            if epoch == params.get("leaves_at"):
                return
            if epoch == params.get("raises_at"):
                raise params["error"]
        raise params["error"]


def outcome_of(agent: Agent, **params: Any) -> tuple[TrainerRun, Finished]:
    run = agent.run(epochs=3, reply_seconds=0.0)
    return run, trainer._outcome(prepared(Careless()), start_message(params=params), run)


@pytest.mark.parametrize("stop", [Outcome.PRUNED, Outcome.PREEMPTED])
@pytest.mark.parametrize(
    ("raises_at", "error", "outcome"),
    [
        (None, ValueError("fewer epochs than expected"), None),
        (None, StopIteration(), None),
        (None, SystemExit(1), None),
        (None, KeyboardInterrupt(), None),
        (None, MemoryError("much"), None),
        (None, DivergedError("no finite epoch"), None),
        (None, OSError(errno.ENOSPC, "No space left on device"), None),
        (2, ValueError("in the loop"), None),
        (2, MemoryError("in the loop"), Outcome.OUT_OF_MEMORY),
        (2, DivergedError("in the loop"), Outcome.DIVERGED),
    ],
)
def test_error_after_the_run_was_asked_to_end_makes_no_bug_of_it(
    agent: Agent, stop: Outcome, raises_at: int | None, error: BaseException, outcome: Outcome | None
) -> None:
    run, ended = outcome_of(agent, stop=stop, raises_at=raises_at, error=error)
    assert ended.outcome is (outcome or stop)
    assert len(run.history) == 2


def test_error_after_a_loop_that_was_not_ended_is_a_bug(agent: Agent) -> None:
    _, ended = outcome_of(agent, error=ValueError("late"))
    assert (ended.outcome, ended.error) == (Outcome.BUG, "ValueError: late")


@pytest.mark.parametrize("stop", [None, Outcome.PRUNED, Outcome.PREEMPTED])
def test_trial_that_ends_itself_is_complete_although_it_is_asked_to_end(
    agent: Agent, stop: Outcome | None
) -> None:
    run, ended = outcome_of(agent, stop=stop, leaves_at=2)
    assert (ended.outcome, len(run.history)) == (Outcome.COMPLETE, 2)


@pytest.mark.parametrize("saves_outcome", [True, False], ids=["trial", "retrain"])
@pytest.mark.parametrize("leaves_at", [2, 3])
def test_complete_result_is_reported_again_if_its_agent_died(
    agent: Agent, leaves_at: int, saves_outcome: bool
) -> None:
    """It would be trained again without a saved state; with one, a trial that ended itself would go on."""
    run, ended = outcome_of(agent, leaves_at=leaves_at)
    run.save_outcome(replace(ended, results={"test_accuracy": 0.5, "confusion": [[1, 0], [0, 1]]}))
    again = agent.run(epochs=3, saves_outcome=saves_outcome)
    assert again.earlier_outcome is not None
    assert again.earlier_outcome.outcome is Outcome.COMPLETE
    assert again.earlier_outcome.results == {"test_accuracy": 0.5, "confusion": [[1, 0], [0, 1]]}
    assert [record.epoch for record in again.history] == list(range(1, leaves_at + 1))


def test_full_disk_is_reported_though_the_log_is_on_it(agent: Agent, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full:
        def write(self, _: str) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    run = agent.run(epochs=3)
    agent.say(Continue(1))
    monkeypatch.setattr(sys, "stderr", Full())
    start = start_message(params={"error": OSError(errno.ENOSPC, "No space left on device")})
    assert trainer._outcome(prepared(Ill()), start, run).outcome == Outcome.DISK_FULL


class Renamed(Objective):
    """Reads a state that was saved under another name."""

    def train(self, params: Params, run: Run) -> None:
        for epoch in run.epochs():
            if epoch >= params["from"] and params["name"] not in (run.state or {}):
                raise params["error"]
            run.report(loss=1.0)


@pytest.mark.parametrize(
    ("params", "outcome"),
    [
        ({"from": 0, "name": "w32", "error": KeyError("w32")}, Outcome.MISFIT),
        ({"from": 0, "name": "w32", "error": SystemExit(1)}, Outcome.MISFIT),
        ({"from": 0, "name": "w32", "error": DivergedError("too much")}, Outcome.DIVERGED),
        ({"from": 3, "name": "w32", "error": KeyError("w32")}, Outcome.BUG),
        ({"from": 0, "name": "w16"}, Outcome.COMPLETE),
    ],
)
def test_error_before_the_first_epoch_after_a_checkpoint_is_none_of_the_trial(
    agent: Agent, params: Params, outcome: Outcome
) -> None:
    run = agent.run(reply_seconds=0.0)
    next(run.epochs())
    run.save({"w16": 1.0})
    run.report(loss=0.5)
    resumed = agent.run(reply_seconds=0.0)
    finished = trainer._outcome(prepared(Renamed()), start_message(params=params), resumed)
    assert finished.outcome is outcome
    # Without a checkpoint the same error is a bug.
    fresh = agent.run(reply_seconds=0.0, checkpoints=str(agent.folder / "other"))
    if outcome is Outcome.MISFIT:
        assert (
            trainer._outcome(prepared(Renamed()), start_message(params=params), fresh).outcome is Outcome.BUG
        )


def test_judged_value_is_saved_with_the_outcome(agent: Agent) -> None:
    run = agent.run(epochs=None)
    run.judge(0.25)
    run.save_outcome(Finished(Outcome.COMPLETE, value=run.value))
    earlier = agent.run(epochs=None).earlier_outcome
    assert earlier is not None
    assert earlier.value == 0.25


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_judged_value_that_is_not_finite_has_diverged(agent: Agent, value: float) -> None:
    run = agent.run()
    with pytest.raises(DivergedError):
        run.judge(value)
    with pytest.raises(DivergedError):
        run.check_end()


class CudnnError(RuntimeError):
    """Libraries of CUDA raise it so if they find no memory, or do not fit to the driver."""


@pytest.mark.parametrize(
    ("gpu", "full", "outcome"),
    [("GPU-1", True, Outcome.OUT_OF_MEMORY), ("GPU-1", False, Outcome.BUG), (None, True, Outcome.BUG)],
)
def test_library_without_memory_for_itself_is_out_of_memory_on_a_full_gpu(
    agent: Agent, monkeypatch: pytest.MonkeyPatch, gpu: str | None, full: bool, outcome: Outcome
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(outcome_module, "is_full", lambda address: asked.append(address) or full)
    monkeypatch.setattr(outcome_module.os, "write", lambda _descriptor, content: len(content))
    run = agent.run(device=Device(gpu=gpu))
    assert outcome_module._failed(CudnnError("CUDNN_STATUS_NOT_INITIALIZED"), run).outcome is outcome
    assert outcome_module._failed(CudnnError("CUDNN_STATUS_BAD_PARAM"), run).outcome is Outcome.BUG
    assert asked == ([] if gpu is None else [gpu])


def test_full_disk_that_a_library_reports_is_no_bug(agent: Agent, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outcome_module.os, "write", lambda _descriptor, content: len(content))
    error = CudnnError("events.out; No space left on device")
    assert outcome_module._failed(error, agent.run()).outcome is Outcome.DISK_FULL
