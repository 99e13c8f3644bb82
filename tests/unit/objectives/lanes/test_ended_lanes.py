"""A trial that is ended from outside leaves its lane wherever it waits for others."""

from __future__ import annotations

import threading
from concurrent.futures import Future, ThreadPoolExecutor

import keras
import numpy as np
import pytest

from objectives import backend

if backend.name() != "jax":
    pytest.skip("lanes need JAX: KERAS_BACKEND=jax", allow_module_level=True)

from objectives.errors import LaneEndedError
from objectives.lanes.inference import Inference
from objectives.lanes.lanes import Lanes
from objectives.lanes.work import Slot

INPUTS = np.zeros((1, 2), np.float32)


@pytest.fixture
def model() -> keras.Model:
    return keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])


@pytest.fixture
def inference(model) -> Inference:
    made = Inference()
    made.begin(lambda: model)
    return made


def test_it_does_not_wait_for_inference_that_is_compiled(model, inference):
    go_on, slot = threading.Event(), Slot(0)

    def forward(*given):
        assert go_on.wait(30)
        return given[-1]

    inference._forward = forward
    slot.ended.set_result(None)
    with pytest.raises(LaneEndedError):
        inference.function(model, training=False, wait=slot.wait)([], [], INPUTS)
    with ThreadPoolExecutor(1) as threads:
        other = threads.submit(inference.function(model, training=False), [], [], INPUTS)
        go_on.set()
        assert other.result(30) is INPUTS


def test_inference_that_could_not_be_compiled_is_compiled_again(model, inference):
    errors = [MemoryError("RESOURCE_EXHAUSTED")]

    def forward(*given):
        if errors:
            raise errors.pop()
        return given[-1]

    inference._forward = forward
    compute = inference.function(model, training=False)
    with pytest.raises(MemoryError):
        compute([], [], INPUTS)
    assert compute([], [], INPUTS) is INPUTS


def test_it_does_not_wait_for_code_that_runs_alone():
    ended: Future[None] = Future()

    def train() -> None:
        with lanes.lane(0, ended), backend.alone():
            pass

    with Lanes(2) as lanes, ThreadPoolExecutor(1) as threads, backend.lane.apart():
        trained = threads.submit(train)
        ended.set_result(None)
        with pytest.raises(LaneEndedError):
            trained.result(30)
