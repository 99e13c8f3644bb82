"""Cross-validation of a trial in folds: each is a run of its own, and an interrupted one is resumed exactly."""

from __future__ import annotations

from dataclasses import replace

import keras
import numpy as np
import pytest

from hpo.errors import ObjectiveBrokenError
from hpo.trainer.checkpointing.checkpoints import CheckpointFolder
from hpo.trainer.messages import EpochRecord
from objectives import loader
from objectives.base import DataOptions
from objectives.keras_objective import KerasObjective
from objectives.local_run import Checkpoint, LocalRun
from tests.unit.objectives.training.kept import sharing, with_programs
from tests.unit.objectives.training.tabular import CLASSIFIED

FOLDS = 3
EPOCHS = 3
PARAMS = {"batch_size": 16, "learning_rate": 0.01}


class Folded(KerasObjective):
    """A network with dropout and normalization, so that folds have more than weights."""

    dataset = "digits"
    epochs = EPOCHS

    def build(self, params, data):  # noqa: ARG002
        layers = keras.layers
        return keras.Sequential(
            [
                keras.Input(data.image_shape),
                layers.Flatten(),
                layers.Rescaling(1 / 255),
                layers.Dense(16),
                layers.BatchNormalization(),
                layers.ReLU(),
                layers.Dropout(0.2),
                layers.Dense(data.output_size),
            ]
        )


@pytest.fixture(scope="module")
def folded() -> Folded:
    objective = Folded()
    objective.prepare(DataOptions(limit=180, folds=FOLDS), final=False)
    return objective


@pytest.fixture(scope="module")
def keeping(folded) -> Folded:
    """Return an objective whose runs train with one program, to which those of `whole` are compared."""
    return with_programs(sharing(Folded, folded))


@pytest.fixture(scope="module")
def whole(folded) -> LocalRun:
    run = LocalRun(EPOCHS, seed=3)
    folded.train(PARAMS, run)
    return run


def exact(history):
    return [{name: value for name, value in m.items() if name != "images_per_second"} for m in history]


def test_each_epoch_reports_mean_and_deviation_of_the_folds(folded, keeping, whole):
    assert {*whole.history[0]} == {*CLASSIFIED, "val_loss_deviation", "val_accuracy_deviation"}
    data, separate = folded._data, []
    for train, held_out in data.folds:
        objective, run = sharing(Folded, keeping), LocalRun(EPOCHS, seed=3)
        assert len(train) == 120
        objective._data = replace(
            data,
            x_train=data.x_train[train],
            y_train=data.y_train[train],
            x_valid=data.x_train[held_out],
            y_valid=data.y_train[held_out],
            folds=(),
        )
        objective.train(PARAMS, run)
        separate.append(run.history)
    for epoch, metrics in enumerate(exact(whole.history)):
        for name in ("loss", "accuracy", "val_loss", "val_accuracy", "learning_rate"):
            assert metrics[name] == pytest.approx(np.mean([one[epoch][name] for one in separate]), rel=1e-6)
        accuracies = [one[epoch]["val_accuracy"] for one in separate]
        assert metrics["val_accuracy_deviation"] == pytest.approx(np.std(accuracies, ddof=1), rel=1e-6)


def test_progress_counts_the_images_of_all_folds(whole):
    steps = FOLDS * (120 // 16)
    assert whole.ticks[-1] == (steps, steps, steps * 16)
    assert [one for one in whole.ticks if one[0] == one[1]] == [(steps, steps, steps * 16)] * EPOCHS


def test_interrupted_run_in_folds_equals_uninterrupted_run(keeping, whole, tmp_path):
    folder, checkpoint, history = CheckpointFolder(tmp_path), None, []
    for stop_after in (1, 2, None):
        run = LocalRun(EPOCHS, seed=3, resume=checkpoint, stop_after=stop_after)
        keeping.train(PARAMS, run)
        history += run.history
        records = [EpochRecord(epoch, dict(metrics), 0.1) for epoch, metrics in enumerate(history, 1)]
        folder.write(records, run.checkpoint.state)
        saved = folder.newest()
        checkpoint = Checkpoint(saved.epoch, saved.state)
    assert exact(history) == exact(whole.history)
    for fold, expected in enumerate(whole.checkpoint.state["folds"]):
        for name, value in expected.items():
            np.testing.assert_array_equal(checkpoint.state["folds"][fold][name], value, err_msg=name)


def test_folds_that_go_on_after_their_end_begin_a_new_schedule(folded, keeping, whole):
    longer = {"total_epochs": EPOCHS + 2, "restarts": (EPOCHS,), "seed": 3}
    at_once, resumed = LocalRun(**longer), LocalRun(**longer, resume=whole.checkpoint)
    keeping.train(PARAMS, at_once)
    folded.train(PARAMS, resumed)
    assert exact(at_once.history) == exact(whole.history + resumed.history)
    assert (
        at_once.history[-1]["learning_rate"]
        == pytest.approx(0, abs=1e-9)
        != at_once.history[-2]["learning_rate"]
    )


def test_checkpoint_of_another_number_of_folds_is_refused(whole):
    objective = Folded()
    objective.prepare(DataOptions(limit=180, folds=2), final=False)
    with pytest.raises(ObjectiveBrokenError, match="the checkpoint has 3 folds, and the study 2"):
        objective.train(PARAMS, LocalRun(EPOCHS, resume=whole.checkpoint))


def test_final_run_has_no_folds():
    objective = Folded()
    objective.prepare(DataOptions(limit=180, folds=FOLDS), final=True)
    assert objective._data.folds == ()
    assert len(objective._data.x_train) == 180, "the rows of all folds"


def test_objective_with_a_loop_of_its_own_takes_no_folds():
    assert Folded.describe("folded").takes_folds
    for method in ("train", "prepare"):
        own = type("Own", (Folded,), {method: lambda *_: None})
        assert not own.describe("own").takes_folds


@pytest.mark.parametrize("name", ["image-resnet", "image-finetune"])
def test_objectives_for_few_images_take_folds(name):
    assert loader.load(name).describe(name).takes_folds
    for method in ("train", "prepare"):
        own = type("Own", (loader.load(name),), {method: lambda *_: None})
        assert not own.describe("own").takes_folds
