"""The number of lanes is that at which images per second stop growing, within memory."""

from __future__ import annotations

import pytest

from objectives import backend

if backend.name() != "jax":
    pytest.skip("lanes need JAX: KERAS_BACKEND=jax", allow_module_level=True)

from objectives.base import DataOptions
from objectives.device import Device
from objectives.lanes import width
from objectives.lanes.rates import Measured
from objectives.lanes.width import Choice, best_width
from tests.unit.objectives.lanes.small import Small

PARAMS = dict(Small.first[0])
CPU = Device(precision="float32")


@pytest.fixture(scope="module")
def digits() -> Small:
    objective = Small()
    objective.prepare(DataOptions(limit=100), final=False)
    return objective


def _chosen(digits, monkeypatch, speeds: dict[int, float | Exception], **options) -> Choice:
    def measured(_, lanes: int) -> Measured:
        speed = speeds[lanes]
        if isinstance(speed, Exception):
            raise speed
        return Measured(lanes, speed)

    monkeypatch.setattr(width, "measured", measured)
    return best_width(digits, PARAMS, device=options.pop("device", CPU), **options)


def test_width_stops_where_speed_does(digits, monkeypatch):
    found = _chosen(digits, monkeypatch, {1: 100, 2: 190, 4: 300, 8: 310})
    assert (found.width, [one.width for one in found.measured]) == (4, [1, 2, 4, 8])
    assert _chosen(digits, monkeypatch, {1: 100, 2: 90}).width == 1
    assert _chosen(digits, monkeypatch, {1: 100, 2: 200}, most=2).width == 2


def test_width_fits_into_memory(digits, monkeypatch):
    full = RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 1 bytes")
    found = _chosen(digits, monkeypatch, {1: 100, 2: 200, 4: full})
    assert (found.width, len(found.measured)) == (2, 2)
    with pytest.raises(RuntimeError, match="RESOURCE_EXHAUSTED"):
        _chosen(digits, monkeypatch, {1: full})
    with pytest.raises(ValueError, match="a bug"):
        _chosen(digits, monkeypatch, {1: 100, 2: ValueError("a bug")})


def test_width_that_would_not_fit_into_the_memory_of_the_host_is_not_tried(digits, monkeypatch):
    used = {1: 1000, 2: 1200, 4: 1600}
    monkeypatch.setattr(width, "measured", lambda _, lanes: Measured(lanes, lanes, used[lanes]))
    device = Device(precision="float32", host_memory_bytes=2300)
    assert best_width(digits, PARAMS, device=device).width == 4


def test_lanes_are_measured_with_the_batches_of_a_trial(digits, monkeypatch):
    monkeypatch.setattr(width, "MEASURED_CALLS", 1)
    monkeypatch.setattr(width, "grows", lambda _: True)
    # As on a GPU, in the second case.
    for platform in ("cpu", "made up"):
        monkeypatch.setattr(width.jax, "default_backend", lambda platform=platform: platform)
        choice = best_width(digits, PARAMS, device=CPU, most=2)
        assert [one.width for one in choice.measured] == [1, 2]
        assert all(one.images_per_second > 0 for one in choice.measured)
        monkeypatch.undo()
