"""The number of lanes is that at which images per second stop growing, within memory."""

from __future__ import annotations

import pytest

from objectives import backend

if backend.name() != "jax":
    pytest.skip("lanes need JAX: KERAS_BACKEND=jax", allow_module_level=True)

from objectives.base import DataOptions
from objectives.device import Device
from objectives.lanes import width
from objectives.lanes.width import Measured, best_width
from objectives.shipped.digits_cnn import DigitsCNN

PARAMS = dict(DigitsCNN.first[0])
CPU = Device(precision="float32")


@pytest.fixture(scope="module")
def digits() -> DigitsCNN:
    objective = DigitsCNN()
    objective.prepare(DataOptions(limit=100), final=False)
    return objective


def _chosen(digits, monkeypatch, speeds: dict[int, float | Exception], **options) -> tuple[int, list[str]]:
    def measured(_, lanes: int) -> Measured:
        speed = speeds[lanes]
        if isinstance(speed, Exception):
            raise speed
        return Measured(lanes, speed, None)

    monkeypatch.setattr(width, "measured", measured)
    lines: list[str] = []
    return best_width(digits, PARAMS, device=CPU, log=lines.append, **options).width, lines


def test_width_stops_where_speed_does(digits, monkeypatch):
    found, lines = _chosen(digits, monkeypatch, {1: 100, 2: 190, 4: 300, 8: 310})
    assert (found, len(lines)) == (4, 4)
    assert lines[1] == "2 lanes: 190 images/s"
    assert _chosen(digits, monkeypatch, {1: 100, 2: 90})[0] == 1
    assert _chosen(digits, monkeypatch, {1: 100, 2: 200}, most=2)[0] == 2


def test_width_fits_into_memory(digits, monkeypatch):
    full = RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 1 bytes")
    found, lines = _chosen(digits, monkeypatch, {1: 100, 2: 200, 4: full})
    assert (found, lines[-1]) == (2, "4 lanes do not fit into memory")
    with pytest.raises(RuntimeError, match="RESOURCE_EXHAUSTED"):
        _chosen(digits, monkeypatch, {1: full})
    with pytest.raises(ValueError, match="a bug"):
        _chosen(digits, monkeypatch, {1: 100, 2: ValueError("a bug")})


def test_lanes_are_measured_with_the_batches_of_a_trial(digits, monkeypatch):
    monkeypatch.setattr(width, "MEASURED_STEPS", 1)
    monkeypatch.setattr(width, "LEAST_GAIN", 0.0)
    choice = best_width(digits, PARAMS, device=CPU, most=2)
    assert [one.width for one in choice.measured] == [1, 2]
    assert all(one.images_per_second > 0 for one in choice.measured)
