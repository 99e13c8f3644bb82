"""Keras trials in lanes of a real process: killed with it, they resume, with the numbers of a process of their own."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from objectives import backend

if backend.name() != "jax":
    pytest.skip("lanes need JAX: KERAS_BACKEND=jax", allow_module_level=True)

from hpo.outcomes import Outcome
from hpo.trainer.ends.exits import Blame, TrainerExited
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


@pytest.fixture
def pool(tmp_path: Path) -> Iterator[TrainerPool]:
    devices = [Device(lane=lane, lanes=LANES, precision="float32") for lane in range(LANES)]
    load = Load("digits-cnn", DataOptions(limit=300), final=False)
    with TrainerPool(load, devices, tmp_path / "template.log") as pool:
        while not pool.ready:
            assert pool.wait(1.0) == []
        yield pool


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
            self._start(slot)
        while left:
            for slot, event in self._pool.wait(1.0):
                match event:
                    case Started():
                        self.pids.append(event.pid)
                    case Epoch(record):
                        self.losses[slot][record.epoch] = record.metrics["val_loss"]
                        if kill_after is not None and all(kill_after in one for one in self.losses):
                            kill_after = None
                            os.kill(self.pids[-1], signal.SIGKILL)
                        self._pool.send(slot, Continue(record.epoch))
                    case TrainerExited():
                        assert event.blame is Blame.SHARED
                        self._start(slot)
                    case Finished():
                        assert event.outcome is Outcome.COMPLETE, event
                        left.discard(slot)

    def _start(self, slot: int) -> None:
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
