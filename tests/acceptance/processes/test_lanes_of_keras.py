"""Keras trials in lanes of a real process: killed with it, they resume, with the numbers of a process of their own."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from objectives import backend

if backend.name() != "jax":
    pytest.skip("lanes need JAX: KERAS_BACKEND=jax", allow_module_level=True)

from hpo.outcomes import Outcome
from hpo.trainer.ends.exits import Blame, Event, TrainerExited
from hpo.trainer.messages import Continue, Epoch, Finished, Started
from hpo.trainer.pool import TrainerPool
from hpo.trainer.template.messages import Load
from hpo.trainer.testing import start_message
from objectives.base import DataOptions
from objectives.device import Device
from objectives.shipped.digits_cnn import DigitsCNN

FIRST = dict(DigitsCNN.first[0])
TRIALS = FIRST, FIRST | {"learning_rate": 1e-3, "dropout": 0.5, "weight_decay": 1e-3}
EPOCHS = 3
LANES = 2
PATIENCE_SECONDS = 60.0

COMPILING = """
import time
from pathlib import Path

from objectives.shipped.digits_cnn import DigitsCNN

FOLDER = Path(__file__).parent


class Slow(DigitsCNN):
    def build(self, params, data):
        from objectives.lanes.program import LaneProgram

        if not hasattr(LaneProgram, "compiled"):
            LaneProgram.compiled = LaneProgram.train
            LaneProgram.train = train
        return super().build(params, data)


def train(program, *batch):
    (FOLDER / "compiling").touch()
    while not (FOLDER / "compiled").exists():
        time.sleep(0.01)
    return program.compiled(*batch)
"""
"""An objective whose program of lanes compiles until a file says that it is compiled."""


@contextmanager
def opened(objective: str, folder: Path) -> Iterator[TrainerPool]:
    devices = [Device(lane=lane, lanes=LANES, precision="float32") for lane in range(LANES)]
    load = Load(objective, DataOptions(limit=300), final=False)
    with TrainerPool(load, devices, folder / "template.log") as pool:
        while not pool.ready:
            assert pool.wait(1.0) == []
        yield pool


@pytest.fixture
def pool(tmp_path: Path) -> Iterator[TrainerPool]:
    with opened("digits-cnn", tmp_path) as found:
        yield found


class Trials:
    """Trials that train at the same time, one in each slot."""

    def __init__(self, pool: TrainerPool, folder: Path, *, alone: bool = False) -> None:
        self._pool, self._folder, self._alone = pool, folder, alone
        self.losses: list[dict[int, float]] = [{} for _ in TRIALS]
        self.pids: list[int] = []

    def train(self, kill_after: int | None = None) -> None:
        """Train to their ends; after an epoch, if it is given, their process is killed once."""
        left = set(range(len(TRIALS)))
        for slot in left:
            self.start(slot)
        while left:
            for slot, event in self._pool.wait(1.0):
                match event:
                    case Started():
                        self.pids.append(event.pid)
                        # Its checkpoint may have been written before it was killed, and its report not sent.
                        for record in event.history:
                            self.losses[slot][record.epoch] = record.metrics["val_loss"]
                    case Epoch(record):
                        self.losses[slot][record.epoch] = record.metrics["val_loss"]
                        if kill_after is not None and all(kill_after in one for one in self.losses):
                            kill_after = None
                            os.kill(self.pids[-1], signal.SIGKILL)
                        self._pool.send(slot, Continue(record.epoch))
                    case TrainerExited():
                        assert event.blame is Blame.SHARED
                        self.start(slot)
                    case Finished():
                        assert event.outcome is Outcome.COMPLETE, event
                        left.discard(slot)

    def start(self, slot: int) -> None:
        start = start_message(
            params=TRIALS[slot],
            seed=slot,
            epochs=EPOCHS,
            metric="val_accuracy",
            device=self._pool.devices[slot],
            checkpoints=str(self._folder / f"trial-{slot}"),
            log=str(self._folder / f"log-{slot}"),
            reply_seconds=60.0,
            alone=self._alone,
        )
        self._pool.start(slot, start)


def test_killed_trials_resume_in_lanes_with_the_numbers_of_processes_of_their_own(
    pool: TrainerPool, tmp_path: Path
) -> None:
    alone = Trials(pool, tmp_path / "alone", alone=True)
    alone.train()
    assert len(set(alone.pids)) == len(TRIALS)
    lanes = Trials(pool, tmp_path / "lanes")
    lanes.train(kill_after=2)
    assert len(set(lanes.pids)) == 2, "one process before the kill, and one after it"
    for mine, expected in zip(lanes.losses, alone.losses, strict=True):
        assert mine == pytest.approx(expected, rel=1e-3)
    assert "epoch 3/3" in (tmp_path / "lanes" / "log-1").read_text()


def test_trial_that_is_killed_while_its_program_compiles_leaves_its_lane_and_the_others_go_on(
    tmp_path: Path,
) -> None:
    file = tmp_path / "slow.py"
    file.write_text(COMPILING)
    with opened(f"{file}:Slow", tmp_path) as pool:
        trials = Trials(pool, tmp_path / "lanes")
        found: list[tuple[int, Event]] = []

        def wait_for(condition: Callable[[], bool]) -> None:
            ends_at = time.monotonic() + PATIENCE_SECONDS
            while not condition():
                assert time.monotonic() < ends_at, found
                for slot, event in pool.wait(0.1):
                    found.append((slot, event))
                    if isinstance(event, Epoch):
                        pool.send(slot, Continue(event.record.epoch))

        for slot in range(LANES):
            trials.start(slot)
        wait_for((tmp_path / "compiling").exists)
        pool.kill(0)
        # It would not be free, or its process would be killed, as long as the program compiles.
        wait_for(lambda: 0 in pool.free_slots())
        trials.start(0)
        wait_for(lambda: sum(isinstance(event, Started) for _, event in found) == LANES + 1)
        (tmp_path / "compiled").touch()
        wait_for(lambda: sum(isinstance(event, Finished) for _, event in found) == LANES)
    assert {event.outcome for _, event in found if isinstance(event, Finished)} == {Outcome.COMPLETE}
    assert len({event.pid for _, event in found if isinstance(event, Started)}) == 1
