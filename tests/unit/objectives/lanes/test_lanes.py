"""A trial in a lane is the trial alone: the same numbers up to rounding, whatever its neighbours."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import keras
import numpy as np
import pytest

from objectives import backend

if backend.name() != "jax":
    pytest.skip("lanes need JAX: KERAS_BACKEND=jax", allow_module_level=True)

from objectives.augment import Augmentation, Mixing
from objectives.base import DataOptions
from objectives.device import Device
from objectives.errors import DivergedError, FreshProcessError
from objectives.lanes import policy
from objectives.lanes.lanes import Lanes
from objectives.lanes.program import LaneProgram
from objectives.lanes.shape import shape_of
from objectives.lanes.work import LanesClosedError
from objectives.local_run import LocalRun
from objectives.shipped.digits_cnn import DigitsCNN

CPU = Device(precision="float32")
ADAM = {**DigitsCNN.first[0], "weight_decay": 1e-3}
OTHER = {**ADAM, "learning_rate": 1.3e-3, "dropout": 0.41, "weight_decay": 2e-5}
DIVERGING = {**ADAM, "learning_rate": 1e30}


class Recipe(DigitsCNN):
    """Everything that a run draws or averages, at once."""

    augmentation = Augmentation(shift=1, cutout=2, fade=0.5)
    mixing = Mixing(mixup=0.3)
    weight_averaging = 0.9
    label_smoothing = 0.1
    learning_rate_factors = {"bias": 2.0}
    metrics = ("accuracy", lambda *_: float(np.random.random()))


def _prepared(cls: type[DigitsCNN], **options: Any) -> DigitsCNN:
    objective = cls()
    objective.prepare(DataOptions(limit=300, validation_fraction=0.2, **options), final=False)
    return objective


@pytest.fixture(scope="module")
def digits() -> DigitsCNN:
    return _prepared(DigitsCNN)


@pytest.fixture(scope="module")
def alone(digits) -> dict[str, LocalRun]:
    """Trials by themselves."""
    return {"adam": _trained(digits, ADAM, 1), "other": _trained(digits, OTHER, 2)}


@pytest.fixture
def lanes() -> Iterator[Lanes]:
    with Lanes(3) as found:
        yield found


def _trained(objective: DigitsCNN, params: Mapping[str, Any], seed: int, **options: Any) -> LocalRun:
    run = LocalRun(**{"total_epochs": 2, "seed": seed, "device": CPU} | options)
    objective.train(params, run)
    return run


def _side_by_side(lanes: Lanes, *trials: tuple[Any, ...]) -> list[Any]:
    """Return the run, or the error, of each trial: objective, parameters and seed, in lanes from 0 on."""
    found: list[Any] = [None] * len(trials)

    def train(index: int) -> None:
        objective, params, seed, *options = trials[index]
        try:
            with lanes.lane(index):
                found[index] = _trained(objective, params, seed, **(options[0] if options else {}))
        except Exception as exc:  # noqa: BLE001 - compared
            found[index] = exc

    threads = [threading.Thread(target=train, args=(index,)) for index in range(len(trials))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def _assert_equal(one: LocalRun, other: LocalRun, tolerance: float = 1e-4) -> None:
    """Assert that validation and all arrays of the checkpoints agree within rounding."""
    for mine, theirs in zip(one.history, other.history, strict=True):
        assert mine.keys() == theirs.keys()
        for name in ("val_loss", "learning_rate"):
            assert mine[name] == pytest.approx(theirs[name], rel=tolerance)
    states = [run.checkpoint.state for run in (one, other)]
    assert states[0].keys() == states[1].keys()
    for name, value in states[0].items():
        np.testing.assert_allclose(value, states[1][name], atol=tolerance, err_msg=name)


def test_lanes_equal_trials_alone_next_to_one_that_diverges(digits, alone, lanes, monkeypatch):
    traced: list[None] = []
    step = keras.Model.train_step
    monkeypatch.setattr(keras.Model, "train_step", lambda *given: traced.append(None) or step(*given))
    adam, diverged, other = _side_by_side(
        lanes, (digits, ADAM, 1), (digits, DIVERGING, 3), (digits, OTHER, 2)
    )
    assert isinstance(diverged, DivergedError)
    _assert_equal(adam, alone["adam"])
    _assert_equal(other, alone["other"])
    # The next trials take the lanes, that of the diverged one too, without a new program.
    other, adam = _side_by_side(lanes, (digits, OTHER, 2), (digits, ADAM, 1))
    _assert_equal(adam, alone["adam"])
    _assert_equal(other, alone["other"])
    assert len(traced) == 1
    assert 0 < lanes.fullness <= 1


def test_trial_continues_alone_after_a_lane_and_in_a_lane_after_it_was_alone(digits, alone, lanes):
    half = _trained(digits, ADAM, 1, stop_after=1)
    in_lane, resumed = _side_by_side(
        lanes, (digits, OTHER, 2, {"stop_after": 1}), (digits, ADAM, 1, {"resume": half.checkpoint})
    )
    for run, whole in (
        (resumed, alone["adam"]),
        (_trained(digits, OTHER, 2, resume=in_lane.checkpoint), alone["other"]),
    ):
        _assert_equal(run, replace(whole, history=whole.history[-1:]))


def test_restarted_schedule_in_a_lane_equals_one_alone(digits, lanes):
    half = _trained(digits, ADAM, 1, stop_after=1)
    longer = {"restarts": (1,), "resume": half.checkpoint, "total_epochs": 3}
    (restarted,) = _side_by_side(lanes, (digits, ADAM, 1, longer))
    _assert_equal(restarted, _trained(digits, ADAM, 1, **longer))


def test_whole_recipe_in_lanes_equals_that_alone(lanes):
    objective = _prepared(Recipe)
    # With seed 2, the other configuration enlarges a change of its weights by 2e-7 to 5e-3; with this one to 1e-6.
    runs = _side_by_side(lanes, (objective, ADAM, 1), (objective, OTHER, 3))
    for run, params, seed in zip(runs, (ADAM, OTHER), (1, 3), strict=True):
        _assert_equal(run, single := _trained(objective, params, seed))
        # Of a metric that draws from the process's generator, which each lane has for itself.
        drawn = [name for name in run.history[0] if "lambda" in name]
        assert [one[drawn[0]] for one in run.history] == [one[drawn[0]] for one in single.history]


def test_folds_in_a_lane_equal_those_alone(lanes):
    objective = _prepared(DigitsCNN, folds=2)
    (run,) = _side_by_side(lanes, (objective, ADAM, 1, {"total_epochs": 1}))
    single = _trained(objective, ADAM, 1, total_epochs=1)
    assert run.history[0]["val_loss"] == pytest.approx(single.history[0]["val_loss"], rel=1e-4)


def test_batches_that_are_made_on_the_device_equal_those_of_the_host(digits, alone, lanes, monkeypatch):
    # JAX without a GPU computes on the processor, whatever the run's device is called.
    gpu = {"device": Device("gpu:0", gpu="0", precision="float32")}
    # As on a GPU, too: several batches a call, in which some lanes have fewer than others.
    lanes._executor.blocks = True
    blocks: list[list[int]] = []
    train_block = LaneProgram.train_block

    def counted(program: LaneProgram, active: Any, count: int, arrays: Any) -> Any:
        blocks.append(active.sum(0).tolist())
        assert not active[count:].any()
        return train_block(program, active, count, arrays)

    monkeypatch.setattr(LaneProgram, "train_block", counted)
    adam, other, diverged = _side_by_side(
        lanes, (digits, ADAM, 1, gpu), (digits, OTHER, 2, gpu), (digits, DIVERGING, 3, gpu)
    )
    assert isinstance(diverged, DivergedError)
    _assert_equal(adam, alone["adam"])
    _assert_equal(other, alone["other"])
    assert max(map(max, blocks)) > 1


def test_final_run_in_a_lane_records_its_test_set(lanes, tmp_path):
    objective = DigitsCNN()
    objective.prepare(DataOptions(limit=300), final=True)
    final = {"final": True, "total_epochs": 1, "output": tmp_path}
    (run,) = _side_by_side(lanes, (objective, ADAM, 1, final))
    single = _trained(objective, ADAM, 1, final=True, total_epochs=1)
    assert run.results["test_loss"] == pytest.approx(single.results["test_loss"], rel=1e-4)
    assert (tmp_path / "model.keras").exists()


def test_trial_of_another_shape_is_refused_before_it_begins(digits, lanes):
    small = {**ADAM, "batch_size": 16}
    (first,) = _side_by_side(lanes, (digits, ADAM, 1, {"total_epochs": 1}))
    _, refused = _side_by_side(lanes, (digits, OTHER, 2, {"total_epochs": 1}), (digits, small, 1))
    assert isinstance(first, LocalRun)
    assert isinstance(refused, FreshProcessError)
    assert lanes.shape == shape_of(digits, ADAM, device=CPU, epochs=1) != shape_of(digits, small, device=CPU)


def test_interrupted_trial_leaves_its_lane_to_the_next_one(digits, alone, lanes):
    class Stopped(LocalRun):
        def tick(self, *_: int) -> None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), lanes.lane(0):
        digits.train(OTHER, Stopped(total_epochs=2, device=CPU))
    (adam,) = _side_by_side(lanes, (digits, ADAM, 1))
    _assert_equal(adam, alone["adam"])


def test_lanes_have_the_dtype_policy_of_the_process(lanes, monkeypatch):
    monkeypatch.setattr(policy, "_policy", keras.DTypePolicy("mixed_bfloat16"))
    found: list[str] = []

    def build() -> None:
        with lanes.lane(0):
            found.append(keras.config.dtype_policy().name)

    thread = threading.Thread(target=build)
    thread.start()
    thread.join()
    assert found == ["mixed_bfloat16"]


def test_lane_has_one_thread_at_a_time(lanes):
    with lanes.lane(1), pytest.raises(ValueError, match="lane 1 trains another trial"), lanes.lane(1):
        pass
    lanes.close()
    with pytest.raises(LanesClosedError), lanes.lane(1):
        pass
