"""A trainer that has traced a model trains later ones of its shape, with the results of fresh processes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from hpo.trainer.messages import Command, Continue, Epoch, Finished, Started
from hpo.trainer.pool import TrainerPool
from hpo.trainer.template.messages import Load
from hpo.trainer.testing import start_message
from objectives.base import DataOptions
from objectives.device import Device
from objectives.shipped.digits_cnn import DigitsCNN

FIRST = dict(DigitsCNN.first[0])
OTHER = FIRST | {"learning_rate": 1e-3, "dropout": 0.5, "weight_decay": 1e-3}

OBJECTIVE = """
import keras
from objectives.shipped.digits_cnn import DigitsCNN

BUILT = []


class Thrice(keras.layers.Layer):
    def call(self, inputs):
        return 3.0 * inputs


class Digits(DigitsCNN):
    def build(self, params, data):
        print("seed", params["seed"])
        if params["changes"]:
            BUILT.append(1)
        inputs = keras.Input(data.input_shape)
        x = keras.layers.Flatten()(inputs)
        x = Thrice()(x) if params["own_layer"] else keras.layers.Rescaling(3.0)(x)
        return keras.Model(inputs, keras.layers.Dense(data.output_size)(x))
"""


class Trials:
    """Attempts that are trained one after another in the one slot of a pool."""

    def __init__(self, pool: TrainerPool, folder: Path) -> None:
        self._pool, self._folder, self._number = pool, folder, 0

    def train(
        self,
        params: Mapping[str, Any],
        seed: int,
        *,
        trial: str = "",
        pause_after: int | None = None,
        **more: Any,
    ) -> tuple[int, list[Mapping[str, float]]]:
        """Return the process of an attempt and the metrics of its epochs; a trial with a name can be resumed."""
        self._number += 1
        self.log = self._folder / f"log-{self._number}"
        start = start_message(
            params=params,
            seed=seed,
            epochs=2,
            metric="val_accuracy",
            device=Device(cores=()),
            checkpoints=str(self._folder / f"trial-{trial or self._number}"),
            log=str(self.log),
            reply_seconds=60.0 if pause_after else 0.0,
            **more,
        )
        self._pool.start(0, start)
        pid, epochs, finished = 0, [], False
        while not finished:
            for _, event in self._pool.wait(1.0):
                match event:
                    case Started():
                        assert pid == 0, "begun once"
                        pid = event.pid
                    case Epoch(record):
                        epochs.append({**record.metrics, "images_per_second": 0.0})
                        paused = record.epoch == pause_after
                        self._pool.send(0, Command.PREEMPT if paused else Continue(record.epoch))
                    case Finished(outcome):
                        assert outcome == ("yielded" if pause_after else "complete"), event
                        finished = True
        return pid, epochs


def with_pool(folder: Path, objective: str, test: Callable[[Trials, TrainerPool], None]) -> None:
    load = Load(objective, DataOptions(limit=300), final=False)
    with TrainerPool(load, [Device()], folder / "template.log") as pool:
        while not pool.ready:
            assert pool.wait(1.0) == []
        test(Trials(pool, folder), pool)


def test_trials_in_one_process_equal_trials_in_fresh_ones_paused_or_not(tmp_path: Path) -> None:
    def test(trials: Trials, pool: TrainerPool) -> None:
        kept = [trials.train(*one) for one in ((FIRST, 1), (OTHER, 2), (FIRST, 1))]
        assert "epoch 2/2" in trials.log.read_text()
        begun = trials.train(OTHER, 2, trial="paused", pause_after=1)
        between = trials.train(FIRST, 3)
        resumed = trials.train(OTHER, 2, trial="paused")
        assert len({pid for pid, _ in [*kept, begun, between, resumed]}) == 1
        pool.fresh_processes = True
        trials.train(FIRST, 3)
        fresh = [trials.train(*one) for one in ((FIRST, 1), (OTHER, 2))]
        assert len({pid for pid, _ in [*kept, *fresh]}) == 3
        assert [epochs for _, epochs in kept] == [fresh[0][1], fresh[1][1], fresh[0][1]]
        assert len(begun[1]) == 1
        assert begun[1] + resumed[1] == fresh[1][1]

    with_pool(tmp_path, "digits-cnn", test)


def test_trial_with_code_of_the_user_gets_a_fresh_process(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(OBJECTIVE)
    plain = {"seed": 1, "changes": False, "own_layer": False}

    def test(trials: Trials, pool: TrainerPool) -> None:  # noqa: ARG001
        pids = []
        for changes in ({}, {}, {"own_layer": True}, {"own_layer": True}, {}, {"changes": True}, {}):
            pids.append(trials.train(plain | changes, 1)[0])
            assert "epoch 2/2" in trials.log.read_text()
        one, again, own, second, new, changed, after = pids
        assert one == again
        assert len({one, own, second, new}) == 4, "a layer of the user is trained in a process of its own"
        assert changed == new
        assert after != changed, "a variable of the module has changed"

    with_pool(tmp_path, f"{file}:Digits", test)
