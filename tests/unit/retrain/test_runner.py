"""Runs of a retrain on a pool without processes."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from hpo.errors import DiskFullError, StorageUnreachableError
from hpo.export.config import Config
from hpo.options.hosts import AgentOptions
from hpo.outcomes import Outcome
from hpo.process.signals import SignalHandler
from hpo.retrain.runner import MAX_LOST, SeedRunner
from hpo.retrain.seed_run import RetrainFailedError, SeedRun
from hpo.terminal.progress import PlainProgress
from hpo.trainer import supervisor
from hpo.trainer.checkpointing.checkpoints import CheckpointFolder
from hpo.trainer.ends.exits import Event, SpawnFailed, TrainerExited
from hpo.trainer.messages import Command, Epoch, EpochRecord, Finished, Start, Started
from hpo.trainer.testing import FakePool

CONFIG = Config(objective="o", params={}, epochs=1, seed=0, metric="loss", direction="minimize")
LAST_EPOCH = Epoch(EpochRecord(1, {"loss": 1.0}, 0.1))


def events(*of: Event) -> Callable[[Start], list[Event]]:
    return lambda _start: list(of)


class Retrain:
    """Two seeds on two slots."""

    def __init__(
        self, folder: Path, *scripts: Callable[[Start], list[Event]], final: bool = True, **options: float
    ) -> None:
        self.runs = [
            SeedRun(
                config=CONFIG,
                seed=seed,
                folder=CheckpointFolder(folder / str(seed)),
                log=folder / f"{seed}.log",
            )
            for seed in (0, 1)
        ]
        self.pool = FakePool(slots=2, scripts=list(scripts))
        self.signals = SignalHandler()
        self.on_trained: Callable[[], None] = lambda: None
        self.final = final
        self.options = AgentOptions(**options)  # type: ignore[arg-type]

    def runner(self) -> SeedRunner:
        on_trained = (lambda: self.on_trained()) if self.final else None
        return SeedRunner(
            "retrain", self.runs, self.pool, PlainProgress(), self.signals, self.options, on_trained
        )

    def run(self) -> bool:
        return self.runner().run()


def test_all_seeds_are_trained_and_report_before_the_test_set(tmp_path: Path) -> None:
    opened: list[int] = []
    retrain = Retrain(tmp_path)
    retrain.on_trained = lambda: opened.append(1)
    assert retrain.run()
    assert [run.result.seed for run in retrain.runs if run.result] == [0, 1]
    assert len(opened) == 2
    assert all(start.final for start in retrain.pool.starts)


def test_run_that_ends_itself_has_a_result_and_reports_that_the_test_set_was_opened(tmp_path: Path) -> None:
    opened: list[int] = []
    ended = [Started(1, 0), LAST_EPOCH, Finished(Outcome.COMPLETE)]
    retrain = Retrain(tmp_path, events(*ended), events(*ended))
    for run in retrain.runs:
        run.config = replace(CONFIG, epochs=3)
    retrain.on_trained = lambda: opened.append(1)
    assert retrain.run()
    assert [len(run.result.history) for run in retrain.runs if run.result] == [1, 1]
    assert len(opened) == 2


def test_waiting_for_the_database_makes_no_trainer_hung(tmp_path: Path) -> None:
    """Their messages wait in the pipes meanwhile."""
    retrain = Retrain(tmp_path, events(Started(1, 0), LAST_EPOCH), events(Started(2, 0)), hung_seconds=0.2)
    retrain.on_trained = lambda: time.sleep(0.5)
    runner = retrain.runner()
    runner._supervisor._turn(runner)
    assert retrain.runs[0].epoch == 1
    assert retrain.pool.killed == []
    # Silent since then, while the supervisor listened.
    time.sleep(0.3)
    runner._supervisor._turn(runner)
    assert retrain.pool.killed == [0, 1]


def test_interrupted_while_the_database_is_unreachable_it_ends(tmp_path: Path) -> None:
    retrain = Retrain(tmp_path)

    def unreachable() -> None:
        retrain.signals.received.append(signal.SIGINT)
        raise StorageUnreachableError("the database did not answer, and the wait was interrupted")

    retrain.on_trained = unreachable
    assert not retrain.run()


def test_database_that_stays_unreachable_is_an_error(tmp_path: Path) -> None:
    retrain = Retrain(tmp_path)

    def unreachable() -> None:
        raise StorageUnreachableError("the database did not answer for 3600 s")

    retrain.on_trained = unreachable
    with pytest.raises(StorageUnreachableError):
        retrain.run()


def test_interrupt_preempts_runs_and_a_resumed_retrain_is_possible(tmp_path: Path) -> None:
    retrain = Retrain(tmp_path, events(Started(1, 0)), events(Started(2, 0)))
    count = 0

    def interrupt() -> None:
        nonlocal count
        count += 1
        if count == 2:
            retrain.signals.received.append(signal.SIGINT)

    retrain.pool.on_wait = interrupt
    assert not retrain.run()
    assert sorted(retrain.pool.sent, key=lambda sent: sent[0]) == [(0, Command.PREEMPT), (1, Command.PREEMPT)]
    assert [run.ended for run in retrain.runs] == [False, False]


def test_run_whose_checkpoint_does_not_fit_starts_again(tmp_path: Path) -> None:
    epoch = EpochRecord(1, {"loss": 0.7}, 0.01)
    retrain = Retrain(tmp_path, events(Started(1, 1, (epoch,)), Finished(Outcome.MISFIT, "KeyError: 'w32'")))
    retrain.runs[0].folder.write([epoch], {"w16": 1.0})
    assert retrain.run()
    assert retrain.runs[0].folder.files() == []
    assert [len(run.history) for run in retrain.runs] == [CONFIG.epochs] * 2


def test_spawn_failure_is_retried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(supervisor, "SPAWN_RETRY_SECONDS", 0.0)
    retrain = Retrain(tmp_path, events(SpawnFailed("no room")))
    assert retrain.run()
    assert "could not start a process (no room); retrying" in caplog.messages
    assert caplog.records[0].seed == 0
    assert retrain.runs[0].lost == 0


def test_template_without_an_answer_is_replaced(tmp_path: Path) -> None:
    retrain = Retrain(tmp_path, events(), hung_seconds=0.05)
    assert retrain.run()
    assert retrain.pool.templates_replaced == 1
    assert retrain.runs[0].lost == 0


def test_full_disk_fails_the_retrain(tmp_path: Path) -> None:
    with pytest.raises(DiskFullError):
        Retrain(tmp_path, events(Started(1, 0), Finished(Outcome.DISK_FULL, "no space left"))).run()


@pytest.mark.parametrize("outcome", [Outcome.DIVERGED, Outcome.OUT_OF_MEMORY, Outcome.BUG])
def test_failed_final_run_fails_the_retrain(tmp_path: Path, outcome: Outcome) -> None:
    with pytest.raises(RetrainFailedError, match=f"seed 0 ended as {outcome} after epoch 0: why"):
        Retrain(tmp_path, events(Started(1, 0), Finished(outcome, "why"))).run()


@pytest.mark.parametrize("outcome", [Outcome.DIVERGED, Outcome.OUT_OF_MEMORY])
def test_failed_candidate_ends_alone(tmp_path: Path, outcome: Outcome) -> None:
    retrain = Retrain(tmp_path, events(Started(1, 0), Finished(outcome, "why")), final=False)
    assert retrain.run()
    assert [run.failure for run in retrain.runs] == [f"{outcome} after epoch 0", None]


STARVED = TrainerExited("the kernel killed its process", -signal.SIGKILL, out_of_memory=True)
REFUSED = TrainerExited("its process was ended by SIGSEGV", -signal.SIGSEGV)


def lost(exited: TrainerExited) -> Callable[[Start], list[Event]]:
    """Script of seed 0 that is lost each time; seed 1 succeeds."""
    return lambda start: [
        Started(1, 0),
        *([exited] if start.seed == 0 else [LAST_EPOCH, Finished(Outcome.COMPLETE)]),
    ]


@pytest.mark.parametrize("exited", [STARVED, REFUSED])
def test_candidate_out_of_memory_fails_alone(tmp_path: Path, exited: TrainerExited) -> None:
    retrain = Retrain(tmp_path, final=False, memory_bytes=1 << 30)
    retrain.pool.default = lost(exited)
    assert retrain.run()
    assert [run.failure for run in retrain.runs] == ["oom after epoch 0", None]
    assert retrain.runs[0].lost == MAX_LOST


def test_final_run_lost_too_often_fails_the_retrain(tmp_path: Path) -> None:
    retrain = Retrain(tmp_path)
    retrain.pool.default = lost(STARVED)
    with pytest.raises(
        RetrainFailedError, match="lost 3 times, the last time: the kernel killed its process"
    ):
        retrain.run()
