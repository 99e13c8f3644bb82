"""`TrainerRun`: reports of an objective over a real pipe."""

from __future__ import annotations

import asyncio
import errno
import math
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from io import StringIO
from itertools import islice
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from optuna import TrialPruned
from optuna.distributions import FloatDistribution, distribution_to_json

from hpo.outcomes import Outcome
from hpo.trainer import trainer
from hpo.trainer.messages import (
    Command,
    Continue,
    Ending,
    Epoch,
    Finished,
    Held,
    Suggest,
    Suggested,
    Tick,
    ToTrainer,
)
from hpo.trainer.pipe import TrainerPipe, decode, encode
from hpo.trainer.run import ORPHANED, TrainerRun
from hpo.trainer.testing import prepared, start_message
from objectives import values
from objectives.base import Objective, Params, Run
from objectives.errors import DivergedError, Infeasible, MetricMissingError, RunEndedError
from tests.odd_values import ODD_ERRORS

PATIENCE = 30.0


@dataclass
class Agent:
    """The other end of the pipe."""

    folder: Path
    exits: list[int]
    threads: list[threading.Thread] = field(default_factory=list)
    connections: list[Connection] = field(default_factory=list)

    def run(self, epochs: int | None = 3, reply_seconds: float = PATIENCE, **more: Any) -> TrainerRun:
        ours, theirs = Pipe()
        self.connections += [ours, theirs]
        more = {"epochs": epochs, "reply_seconds": reply_seconds, "saves_outcome": True, **more}
        run = TrainerRun(
            TrainerPipe(theirs), start_message(**{"checkpoints": str(self.folder / "trial"), **more})
        )
        thread = threading.Thread(target=_until_exit(run), daemon=True)
        thread.start()
        self.threads.append(thread)
        return run

    def say(self, *messages: ToTrainer) -> None:
        for message in messages:
            self.connections[-2].send(message)

    def hear(self) -> Any:
        assert self.connections[-2].poll(PATIENCE)
        return decode(self.connections[-2].recv_bytes())

    def received(self) -> list[Any]:
        """Return all messages so far."""
        messages = []
        while self.connections[-2].poll():
            messages.append(decode(self.connections[-2].recv_bytes()))
        return messages

    def leave(self) -> None:
        """Close the pipe, as a killed agent does."""
        self.connections[-2].close()
        self.threads[-1].join(PATIENCE)


def _until_exit(run: TrainerRun) -> Callable[[], None]:
    def listen() -> None:
        with suppress(SystemExit):
            run.listen()

    return listen


@pytest.fixture
def agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Agent]:
    exits: list[int] = []

    def leave(code: int) -> None:
        exits.append(code)
        raise SystemExit

    monkeypatch.setattr(os, "_exit", leave)
    # Its group with it: here that would be the test itself.
    monkeypatch.setattr("hpo.trainer.run.kill_group", exits.append)
    agent = Agent(tmp_path, exits)
    yield agent
    for connection in agent.connections[::2]:
        connection.close()
    for thread in agent.threads:
        thread.join(PATIENCE)
    for connection in agent.connections[1::2]:
        connection.close()


def test_epoch_is_saved_then_reported_then_answered(agent: Agent) -> None:
    run = agent.run(epochs=2)
    agent.say(Continue(1))
    epochs = []
    for epoch in run.epochs():
        epochs.append(epoch)
        run.save({"weights": np.array([epoch])})
        run.report(loss=1 / epoch, val_loss=2.0)
    assert epochs == [1, 2]
    assert run.stop_outcome is None
    messages = agent.received()
    assert [(m.record.epoch, m.record.metrics) for m in messages] == [
        (1, {"loss": 1.0, "val_loss": 2.0}),
        (2, {"loss": 0.5, "val_loss": 2.0}),
    ]
    assert all(isinstance(m, Epoch) and m.record.seconds >= 0 for m in messages)


def test_run_resumes_after_the_last_checkpoint(agent: Agent) -> None:
    first = agent.run(epochs=4)
    assert first.state is None
    agent.say(Continue(1), Continue(2))
    epochs = first.epochs()
    for epoch in (1, 2):
        assert next(epochs) == epoch
        first.save({"weights": np.array([epoch]), "done": epoch})
        first.report(loss=0.5)
    # The process dies here, in its third epoch.
    assert next(epochs) == 3

    second = agent.run(epochs=4)
    assert second.state is not None
    assert (second.state["done"], second.state["weights"].tolist()) == (2, [2])
    assert [record.epoch for record in second.history] == [1, 2]
    agent.say(Continue(3))
    resumed = []
    for epoch in second.epochs():
        resumed.append(epoch)
        second.report(loss=0.5)
    assert resumed == [3, 4]
    assert [record.epoch for record in second.history] == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("code", "restarts", "resumed_from"),
    [("c0de1", True, 2), ("c0de2", False, 2), ("c0de2", True, 0)],
    ids=["same code", "kept", "restarted"],
)
def test_state_of_other_code_is_resumed_unless_the_user_restarts(
    agent: Agent, code: str, restarts: bool, resumed_from: int
) -> None:
    def train(run: TrainerRun, epochs: int) -> None:
        for epoch in islice(run.epochs(), epochs):
            run.save({"done": epoch})
            run.report(loss=0.5)

    train(agent.run(reply_seconds=0.0, code="c0de1"), 2)
    second = agent.run(reply_seconds=0.0, code=code, restarts_other_code=restarts)
    assert len(second.history) == resumed_from
    assert (second.state or {"done": 0})["done"] == resumed_from
    train(second, 1)
    # The trial that other code has begun keeps both.
    last = agent.run(reply_seconds=0.0, code=code, restarts_other_code=True)
    assert len(last.history) == (0 if code == "c0de2" and not restarts else resumed_from + 1)


def test_finished_checkpoint_has_no_epoch_left(agent: Agent) -> None:
    run = agent.run(epochs=1)
    for _ in run.epochs():
        run.save({"done": 1})
        run.report(loss=1.0)
    assert list(agent.run(epochs=1).epochs()) == []


@pytest.mark.parametrize(("message", "ending"), [(Command.PRUNE, "pruned"), (Command.PREEMPT, "yielded")])
def test_run_ends_after_the_epoch_when_asked_to(agent: Agent, message: ToTrainer, ending: str) -> None:
    run = agent.run()
    agent.say(message)
    epochs = []
    for epoch in run.epochs():
        epochs.append(epoch)
        run.report(loss=1.0)
    assert len(epochs) <= 1
    assert run.stop_outcome == ending
    assert [type(message) for message in agent.received()] == [Epoch] * len(epochs) + [Ending]


def test_trainer_that_loads_ends_at_once_when_preempted(
    agent: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed = threading.Event()
    monkeypatch.setattr("hpo.trainer.run.kill_group", lambda _: killed.set())
    run = agent.run()
    with run.loading():
        agent.say(Command.PREEMPT)
        assert killed.wait(PATIENCE)
    assert [message for message in agent.received() if not isinstance(message, Tick)] == [
        Finished(Outcome.PREEMPTED)
    ]


def test_prune_overrides_preempt(agent: Agent) -> None:
    run = agent.run()
    agent.say(Command.PRUNE, Command.PREEMPT)
    for _ in run.epochs():
        run.report(loss=1.0)
    agent.leave()
    assert run.stop_outcome == Outcome.PRUNED


def test_run_continues_without_an_answer_after_a_while(agent: Agent) -> None:
    run = agent.run(epochs=3, reply_seconds=0.01)
    for _ in run.epochs():
        run.report(loss=1.0)
    assert len(agent.received()) == 3


def test_run_that_may_be_ahead_waits_for_earlier_answers_only(
    agent: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = agent.run(epochs=4, ahead=2)
    answered: list[bool] = []
    monkeypatch.setattr(
        run._received,
        "wait_for",
        lambda condition, timeout: answered.append(bool(condition())),  # noqa: ARG005
    )
    for _ in run.epochs():
        run.report(loss=1.0)
    # The last epoch needs no answer.
    assert answered == [True, True, False]


def test_run_waits_while_the_study_is_paused(agent: Agent, monkeypatch: pytest.MonkeyPatch) -> None:
    ahead, monotonic = [0.0], time.monotonic
    clock = SimpleNamespace(monotonic=lambda: monotonic() + ahead[0])
    monkeypatch.setattr("hpo.trainer.run.time", clock)
    run = agent.run(epochs=1)
    agent.say(Command.PAUSE)
    started = threading.Event()

    def train() -> None:
        for _ in run.epochs():
            started.set()
            run.report(loss=1.0)

    # The listener has handled a message once it has received the next one.
    agent.say(Continue(0))
    while not run._paused:
        agent.threads[-1].join(0.01)
    thread = threading.Thread(target=train)
    thread.start()
    assert isinstance(agent.hear(), Held)
    assert not started.wait(0.1)
    ahead[0] = 7200.0
    agent.say(Command.RESUME)
    assert started.wait(PATIENCE)
    thread.join(PATIENCE)
    epoch = agent.hear()
    assert isinstance(epoch, Epoch)
    assert epoch.record.seconds < 3600


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


def test_other_metrics_may_be_non_finite(agent: Agent) -> None:
    run = agent.run(epochs=1)
    for _ in run.epochs():
        run.report(loss=1.0, ratio=math.nan)
    assert run.stop_outcome is None


def test_missing_metric_is_an_error(agent: Agent) -> None:
    run = agent.run()
    epochs = run.epochs()
    next(epochs)
    with pytest.raises(MetricMissingError, match=r"was given accuracy, but not 'loss'"):
        run.report(accuracy=0.5)
    with pytest.raises(MetricMissingError, match=r"ended epoch 1 without calling run.report\(\)"):
        next(epochs)


def test_second_report_of_an_epoch_is_an_error(agent: Agent) -> None:
    run = agent.run(reply_seconds=0.01)
    next(run.epochs())
    run.report(loss=0.5)
    with pytest.raises(MetricMissingError, match="called again in epoch 1"):
        run.report(loss=0.5)


def test_final_run_may_report_any_metrics(agent: Agent) -> None:
    run = agent.run(epochs=1, final=True, output=str(agent.folder / "out"))
    for _ in run.epochs():
        run.report(accuracy=0.5)
    run.record(test_accuracy=0.9)
    run.record(confusion=[[1]])
    assert run.results == {"test_accuracy": 0.9, "confusion": [[1]]}
    assert run.output == agent.folder / "out"


def test_progress_is_sent_at_most_once_a_second(agent: Agent, monkeypatch: pytest.MonkeyPatch) -> None:
    run = agent.run()
    next(run.epochs())
    for batch in range(100):
        run.tick(batch, 100, images=batch)
    assert agent.received() == []
    monkeypatch.setattr("hpo.trainer.run.TICK_SECONDS", 0.0)
    run.tick(50, 100, images=640)
    (tick,) = agent.received()
    assert isinstance(tick, Tick)
    assert (tick.epoch, tick.fraction) == (1, 0.5)
    assert tick.images_per_second > 0


@pytest.mark.parametrize("done", [math.nan, math.inf])
def test_progress_that_is_no_number_fails_no_trial(
    agent: Agent, monkeypatch: pytest.MonkeyPatch, done: float
) -> None:
    run = agent.run()
    next(run.epochs())
    monkeypatch.setattr("hpo.trainer.run.TICK_SECONDS", 0.0)
    run.tick(done, math.inf, images=done)  # type: ignore[arg-type]
    assert agent.received() == [Tick(1, 0.0, 0.0)]


def test_trainer_without_an_agent_ends_at_once(agent: Agent) -> None:
    agent.run()
    agent.leave()
    assert agent.exits == [os.getpid(), ORPHANED]


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
    make: Callable[[], BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer.os, "write", lambda _descriptor, content: len(content))
    finished = trainer._failed(make())
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


def test_epoch_is_reported_by_one_of_two_threads(agent: Agent) -> None:
    run = agent.run(epochs=1)
    assert next(run.epochs()) == 1
    refused: list[Exception] = []

    def report() -> None:
        try:
            run.report(loss=1.0)
        except MetricMissingError as exc:
            refused.append(exc)

    threads = [threading.Thread(target=report) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(refused) == 3
    assert len(agent.received()) == 1


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
    """Without a saved state it would be trained again; with one, a trial that ended itself would go on."""
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


def test_trainer_that_loads_its_objective_reports_that_it_is_alive(
    agent: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hpo.trainer.run.TICK_SECONDS", 0.01)
    run = agent.run()
    with run.loading():
        assert agent.hear() == Tick(1, 0.0, 0.0)
    run.send_alive()
    assert agent.received()[-1] == Tick(1, 1.0, 0.0)


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


UNIT = FloatDistribution(0.0, 1.0)


def test_open_space_gets_its_parameters_from_the_agent(agent: Agent) -> None:
    run = agent.run(epochs=None)
    asked = Suggest("x", distribution_to_json(UNIT))
    with ThreadPoolExecutor(1) as pool:
        value = pool.submit(run.suggest, "x", UNIT)
        assert agent.hear() == asked
        agent.say(Suggested("x", 0.5))
        assert value.result(PATIENCE) == 0.5
        refused = pool.submit(run.suggest, "kind", UNIT)
        assert agent.hear() == Suggest("kind", asked.distribution)
        agent.say(Suggested("kind", error="another kind"))
        with pytest.raises(ValueError, match="another kind"):
            refused.result(PATIENCE)


def test_open_space_that_waits_for_a_parameter_is_preempted(agent: Agent) -> None:
    run = agent.run(epochs=None)
    with ThreadPoolExecutor(1) as pool:
        value = pool.submit(run.suggest, "x", UNIT)
        assert isinstance(agent.hear(), Suggest)
        agent.say(Command.PREEMPT)
        with pytest.raises(RunEndedError):
            value.result(PATIENCE)
    assert (run.ended_early, run.stop_outcome) == (True, Outcome.PREEMPTED)


def test_open_space_is_only_advised_to_prune(agent: Agent) -> None:
    run = agent.run(epochs=None)
    agent.say(Command.PRUNE)
    epochs = run.epochs()
    next(epochs)
    run.report(loss=1.0)
    assert (run.prune_advised, run.stop_outcome) == (True, None)
    assert next(epochs) == 2
    # The pruner judges each report anew.
    agent.say(Continue(2))
    run.report(loss=0.5)
    assert not run.prune_advised


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
