"""Runs of a retrain on a pool that the test plays: who is ended, and who is not."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from hpo.errors import StorageUnreachableError
from hpo.export.config import Config
from hpo.options import AgentOptions
from hpo.process.signals import SignalHandler
from hpo.retrain.runner import MAX_LOST, RetrainFailedError, SeedRun, SeedRunner
from hpo.trainer.checkpoints import CheckpointFolder
from hpo.trainer.exits import Event, TrainerExited
from hpo.trainer.messages import Epoch, EpochRecord, Started
from objectives.base import Device

CONFIG = Config("o", {}, 1, 0, "loss", "minimize")
LAST_EPOCH = Epoch(EpochRecord(1, {"loss": 1.0}, 0.1))


class Pool:
    """Two slots; what is said comes as the test has it, each time that somebody listens."""

    ready = True

    def __init__(self, *said: list[tuple[int, Event]]) -> None:
        self.devices = [Device(), Device()]
        self.killed: list[int] = []
        self._said = list(said)
        self._busy: set[int] = set()

    def free_slots(self) -> list[int]:
        return sorted({0, 1} - self._busy)

    def start(self, slot: int, _start: object) -> None:
        self._busy.add(slot)

    def wait(self, _seconds: float) -> list[tuple[int, Event]]:
        said = self._said.pop(0) if self._said else []
        self._busy -= {slot for slot, event in said if isinstance(event, TrainerExited)}
        return said

    def kill(self, slot: int) -> None:
        self.killed.append(slot)
        self._busy.discard(slot)

    def is_forked(self, _slot: int) -> bool:
        return True

    def check_loading(self, _seconds: float) -> None:
        pass

    def send(self, _slot: int, _message: object) -> None:
        pass


class Progress:
    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, message: str) -> None:
        self.said.append(message)

    def update(self, _view: object) -> None:
        pass


def runs_on(
    pool: Pool,
    folder: Path,
    interruption: SignalHandler | None = None,
    on_trained: Callable[[], None] | None = None,
    options: AgentOptions | None = None,
) -> SeedRunner:
    runs = [
        SeedRun(CONFIG, seed, CheckpointFolder(folder / str(seed)), folder / f"{seed}.log") for seed in (0, 1)
    ]
    return SeedRunner(
        "retrain",
        runs,
        pool,
        Progress(),
        interruption or SignalHandler(),
        options or AgentOptions(),
        on_trained,
    )  # type: ignore[arg-type]


def test_who_waited_for_the_database_calls_nobody_hung(tmp_path: Path) -> None:
    """What trainers said meanwhile lies in their pipes."""
    pool = Pool([(0, Started(1, 0)), (1, Started(2, 0))], [(0, LAST_EPOCH)])
    hung = AgentOptions(hung_seconds=0.2)
    runs = runs_on(pool, tmp_path, on_trained=lambda: time.sleep(0.5), options=hung)
    runs._turn()
    runs._turn()
    assert pool.killed == []
    # It has said nothing since, and was listened to.
    time.sleep(0.3)
    runs._turn()
    assert pool.killed == [0, 1]


def test_told_to_end_while_the_database_is_away_it_ends(tmp_path: Path) -> None:
    interruption = SignalHandler()

    def away() -> None:
        interruption.received.append(signal.SIGINT)
        raise StorageUnreachableError("the database did not answer, and the wait was interrupted")

    pool = Pool([(0, Started(1, 0)), (1, Started(2, 0))], [(0, LAST_EPOCH)])
    assert not runs_on(pool, tmp_path, interruption, away).run()


def test_a_database_that_stays_away_is_an_error(tmp_path: Path) -> None:
    def away() -> None:
        raise StorageUnreachableError("the database did not answer for 3600 s")

    pool = Pool([(0, Started(1, 0))], [(0, LAST_EPOCH)])
    with pytest.raises(StorageUnreachableError):
        runs_on(pool, tmp_path, on_trained=away).run()


STARVED = TrainerExited("the kernel killed its process", -signal.SIGKILL, out_of_memory=True)
REFUSED = TrainerExited("its process was ended by SIGSEGV", -signal.SIGSEGV)


@pytest.mark.parametrize("death", [STARVED, REFUSED])
def test_a_candidate_that_takes_too_much_memory_fails_alone(tmp_path: Path, death: TrainerExited) -> None:
    deaths: list[list[tuple[int, Event]]] = [[(0, Started(1, 0)), (0, death)] for _ in range(MAX_LOST)]
    runs = runs_on(Pool(*deaths), tmp_path, options=AgentOptions(memory_bytes=1 << 30))
    for _ in range(MAX_LOST):
        runs._turn()
    assert [run.failure for run in runs._runs] == ["oom after epoch 0", None]


def test_a_final_run_that_is_lost_too_often_fails_the_retrain(tmp_path: Path) -> None:
    deaths: list[list[tuple[int, Event]]] = [[(0, Started(1, 0)), (0, STARVED)] for _ in range(MAX_LOST)]
    with pytest.raises(RetrainFailedError, match="lost 3 times"):
        runs_on(Pool(*deaths), tmp_path, on_trained=lambda: None).run()
