"""`TrainerRun`: reports of an objective over a real pipe."""

from __future__ import annotations

import math
import os
import threading
import time
from itertools import islice
from types import SimpleNamespace

import numpy as np
import pytest

from hpo.outcomes import Outcome
from hpo.process.process_groups import ORPHANED
from hpo.trainer.messages import (
    Command,
    Continue,
    Ending,
    Epoch,
    Finished,
    Held,
    Tick,
    ToTrainer,
)
from hpo.trainer.run import TrainerRun
from objectives.errors import MetricMissingError
from tests.unit.trainer.agent_end import PATIENCE, Agent


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


def test_trainer_that_loads_its_objective_reports_that_it_is_alive(
    agent: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hpo.trainer.run.TICK_SECONDS", 0.01)
    run = agent.run()
    with run.loading():
        assert agent.hear() == Tick(1, 0.0, 0.0)
    run.send_alive()
    assert agent.received()[-1] == Tick(1, 1.0, 0.0)
