from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hpo.devices import slots as slots_module
from hpo.devices.cores import Cores
from hpo.devices.gpus import Gpu
from hpo.devices.mps import Mps
from hpo.devices.slots import CONTEXT_BYTES, describe, in_lanes, of_one_lane, parse_description, slots_here
from hpo.devices.slots import plan_slots as plan_slots_on
from hpo.options.hosts import PRECISIONS, SlotOptions
from objectives.device import Device, Precision

GIB = 2**30


def plan_slots(
    workers: int | None, cores: Sequence[int], gpus: Sequence[Gpu], count: int | None = None, **options: Any
) -> list[Device]:
    """Plan slots on some cores; `count`: a quota allows the time of so many of them."""
    usable = tuple(cores)
    on = Cores(usable=usable, count=count or len(usable), pinned=count is None)
    return plan_slots_on(workers, on, gpus, **options)


@pytest.mark.parametrize(
    ("workers", "cores", "shares"),
    [
        (None, (0, 1), [(0,), (1,)]),
        (1, (0, 1, 2, 3), [(0, 1, 2, 3)]),
        (2, (0, 1, 2, 3), [(0, 1), (2, 3)]),
        (3, (0, 1, 2, 3, 4), [(0,), (1, 2), (3, 4)]),
        (4, (0, 1), [(0,), (1,), (0,), (1,)]),
        (2, (5,), [(5,), (5,)]),
        (2, (2, 3, 6, 7), [(2, 3), (6, 7)]),
    ],
)
def test_slots_divide_the_cores(
    workers: int | None, cores: tuple[int, ...], shares: list[tuple[int, ...]]
) -> None:
    slots = plan_slots(workers, cores, ())
    assert [slot.cores for slot in slots] == shares
    assert {slot.gpu for slot in slots} == {None}


def test_every_core_is_used_once() -> None:
    for workers in range(1, 17):
        used = [core for slot in plan_slots(workers, range(16), ()) for core in slot.cores]
        assert sorted(used) == list(range(16))


def gpu(label: str, gib: float | None = None) -> Gpu:
    return Gpu(label, f"GPU-{label}", "NVIDIA H200", None if gib is None else round(gib * GIB))


@pytest.mark.parametrize(
    ("workers", "gpus", "shares"),
    [
        (None, "01", ["0", "1"]),
        (4, "01", ["0", "1", "0", "1"]),
        (5, "01", ["0", "1", "0", "1", "0"]),
        (1, "01", ["0"]),
        (2, "3", ["3", "3"]),
    ],
)
def test_slots_divide_the_gpus(workers: int | None, gpus: str, shares: list[str]) -> None:
    slots = plan_slots(workers, (0, 1, 2, 3), [gpu(label) for label in gpus])
    assert [slot.gpu for slot in slots] == [f"GPU-{label}" for label in shares]
    assert [slot.name for slot in slots] == [f"gpu:{label}" for label in shares]


def test_slots_on_one_gpu_divide_its_memory() -> None:
    slots = plan_slots(3, (0, 1, 2), [gpu("0", 80), gpu("1", 40)])
    # The second GPU has one slot, which is not limited.
    assert [slot.gpu_memory_bytes for slot in slots] == [39 * GIB, None, 39 * GIB]
    assert [slot.gpu_memory_fraction for slot in slots] == [
        pytest.approx(39 / 80),
        None,
        pytest.approx(39 / 80),
    ]
    limits = [slot.gpu_memory_bytes or 0 for slot in plan_slots(4, (0,), [gpu("0", 80)])]
    # The slots together fit, CUDA's own memory included.
    assert sum(limits) + 4 * CONTEXT_BYTES <= 80 * GIB


def test_reserve_takes_at_most_half_of_a_small_share() -> None:
    slots = plan_slots(8, (0,), [gpu("0", 8)])
    assert {slot.gpu_memory_bytes for slot in slots} == {GIB // 2}


def test_gpu_share_limits_memory() -> None:
    (alone,) = plan_slots(1, (0,), [gpu("0", 80)], gpu_share=0.25)
    assert alone.gpu_memory_bytes == 19 * GIB
    slots = plan_slots(2, (0, 1), [gpu("0", 80)], gpu_share=0.5)
    assert [slot.gpu_memory_bytes for slot in slots] == [19 * GIB] * 2


def test_gpu_of_unknown_memory_is_divided_by_fraction() -> None:
    slots = plan_slots(2, (0, 1), [gpu("0")])
    assert [(slot.gpu_memory_bytes, slot.gpu_memory_fraction) for slot in slots] == [(None, 0.45)] * 2


def test_slots_are_described() -> None:
    assert describe(plan_slots(2, range(8), [gpu("0", 139.8)])) == [
        "slot 0: gpu 0 (1/2, 68.9 GiB), cores 0-3",
        "slot 1: gpu 0 (1/2, 68.9 GiB), cores 4-7",
    ]
    assert describe(plan_slots(1, (0, 1, 6), [gpu("0.1", 16)])) == ["slot 0: gpu 0.1 (16.0 GiB), cores 0-1,6"]
    assert describe(plan_slots(2, (0, 1), [gpu("0")], gpu_share=0.6)) == [
        "slot 0: gpu 0 (30%), core 0",
        "slot 1: gpu 0 (30%), core 1",
    ]
    assert describe(plan_slots(1, (0, 1, 2), ())) == ["slot 0: cores 0-2"]


def test_slots_are_limited_by_the_work() -> None:
    assert [slot.cores for slot in plan_slots(None, range(4), (), at_most=2)] == [(0, 1), (2, 3)]
    assert len(plan_slots(None, range(8), [gpu("0", 80)], at_most=3)) == 1


def test_device_names_are_short() -> None:
    assert [slot.name for slot in plan_slots(2, (0, 1, 2), ())] == ["cpu:0", "cpu:1-2"]


@pytest.mark.parametrize("precision", PRECISIONS)
def test_every_slot_has_the_requested_precision(precision: Precision) -> None:
    slots = slots_here(2, SlotOptions(gpus="none", precision=precision))
    assert {slot.precision for slot in slots} == {precision}


@pytest.mark.parametrize(
    ("workers", "count", "gpus", "shown"),
    [
        (None, 1, (), ["1 core"]),
        (None, 2, (), ["1 core", "1 core"]),
        (1, 3, (), ["3 cores"]),
        (2, 3, (), ["1 core", "2 cores"]),
        (3, 2, (), ["1 core", "1 core", "1 core"]),
        (None, 2, (gpu("0", 80),), ["gpu 0 (80.0 GiB), 2 cores"]),
    ],
)
def test_slots_within_a_quota_are_not_pinned(workers, count, gpus, shown) -> None:
    slots = plan_slots(workers, range(8), gpus, count)
    assert [slot.owns for slot in slots] == shown
    assert {slot.cores for slot in slots} == {()}
    assert [slot.threads for slot in slots] == [parse_description(text)["cores"] for text in shown]
    assert {slot.name for slot in slots} == {"gpu:0" if gpus else "cpu"}


@pytest.mark.parametrize("cores", [(3,), (0, 1), (0, 1, 6, 8, 9), tuple(range(64))])
@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("gpus", [(), (gpu("0.1", 16.0),), (gpu("GPU-1111aaaa"),)])
def test_description_round_trips(cores: tuple[int, ...], workers: int, gpus: tuple[Gpu, ...]) -> None:
    for slot in plan_slots(workers, cores, gpus):
        found = parse_description(slot.owns)
        assert found["cores"] == len(slot.cores)
        assert (found["gpu"] or "").startswith(gpus[0].label if gpus else "")
        assert (found["gpu"] is None) == (slot.gpu is None)


def test_lanes_are_slots_of_one_device_that_follow_each_other() -> None:
    devices = in_lanes(plan_slots(2, (0, 1, 2, 3), ()), 3)
    assert [(device.name, device.lane, device.lanes) for device in devices] == [
        (f"cpu:{cores}/{lane}", lane, 3) for cores in ("0-1", "2-3") for lane in range(3)
    ]
    assert devices[4].owns == "cores 2-3, lane 1 of 3"
    assert {device.cores for device in devices[3:]} == {(2, 3)}
    assert describe(devices) == ["slots 0-2: cores 0-1, 3 lanes", "slots 3-5: cores 2-3, 3 lanes"]
    assert parse_description(devices[4].owns) == {"cores": 2, "gpu": None}
    assert in_lanes(devices[:2], 1) == devices[:2]


@pytest.mark.parametrize("text", ["", "cpu:0", "next", "cores", "core 0, core 1", "gpu 0"])
def test_other_texts_describe_no_slot(text: str) -> None:
    assert parse_description(text) == {}


@pytest.mark.parametrize(
    ("workers", "gpus", "cores", "notes"),
    [
        (None, "01", 1, []),
        (1, "", 2, []),
        (2, "01", 2, []),
        (
            1,
            "012",
            2,
            [
                "GPU 1, 2 stays idle, because each worker slot uses one GPU: use --workers 3,"
                " or --gpus 0 to leave it to others"
            ],
        ),
        (
            50,
            "",
            2,
            [
                "50 worker slots share 2 cores, so each trial is slower: use --workers 2,"
                " unless trials wait for other things than processor time"
            ],
        ),
    ],
)
def test_idle_gpus_and_shared_cores_are_reported(monkeypatch, caplog, workers, gpus, cores, notes) -> None:
    usable = Cores(usable=tuple(range(cores)), count=cores)
    monkeypatch.setattr(slots_module, "usable_cores", lambda: usable)
    monkeypatch.setattr(slots_module, "choose_gpus", lambda *_: tuple(map(gpu, gpus)))
    slots_here(workers, SlotOptions())
    assert caplog.messages == notes


def test_slots_know_the_memory_that_they_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    slots = plan_slots(3, (0, 1, 2), [gpu("0", 80), gpu("1", 40)])
    assert [slot.gpu_usable_bytes for slot in slots] == [39 * GIB, 39 * GIB, 39 * GIB]
    assert plan_slots(1, (0,), [gpu("0")])[0].gpu_usable_bytes is None
    monkeypatch.setattr(slots_module, "memory_limit", lambda: 3 * 10**8)
    assert [slot.host_memory_bytes for slot in slots_here(3, SlotOptions(gpus="none"))] == [10**8] * 3
    # The lanes of a process share its memory.
    lanes = slots_here(1, SlotOptions(gpus="none", lanes=3))
    assert [slot.host_memory_bytes for slot in lanes] == [3 * 10**8] * 3
    assert [slot.lane for slot in slots_here(1, SlotOptions(gpus="none", lanes="auto"))] == [None]


@pytest.mark.parametrize("workers", [1, 2])
def test_trials_that_cannot_share_a_program_divide_what_its_process_may_take(workers: int) -> None:
    slots = in_lanes(plan_slots(workers, (0, 1), [gpu("0", 80)]), 4)
    alone = [of_one_lane(slot) for slot in slots]
    assert (len(slots), {slot.gpu_memory_grows for slot in (*slots, *alone)}) == (4 * workers, {True})
    assert {(slot.lane, slot.lanes, of_one_lane(slot)) for slot in alone} == {
        (None, 1, slot) for slot in alone
    }
    limits = [slot.gpu_memory_bytes or 0 for slot in alone]
    assert sum(limits) + len(alone) * CONTEXT_BYTES == 80 * GIB
    assert [slot.gpu_memory_fraction for slot in alone] == [pytest.approx(limits[0] / (80 * GIB))] * len(
        alone
    )
    assert [slot.gpu_usable_bytes for slot in alone] == limits


@pytest.mark.parametrize(("workers", "part"), [(1, 0.9 / 3), (2, 0.45 / 3)])
def test_they_divide_a_gpu_of_unknown_memory_by_fractions(workers: int, part: float) -> None:
    for slot in in_lanes(plan_slots(workers, (0, 1), [gpu("0")]), 3):
        alone = of_one_lane(slot)
        assert (alone.gpu_memory_bytes, alone.gpu_memory_fraction) == (None, pytest.approx(part))


def test_they_divide_the_memory_of_the_host() -> None:
    (slot,) = plan_slots(1, (0, 1), ())
    assert of_one_lane(slot) is slot
    lane = in_lanes([replace(slot, host_memory_bytes=3 * GIB)], 3)[1]
    alone = of_one_lane(lane)
    assert (alone.host_memory_bytes, alone.gpu_memory_fraction, alone.cores) == (GIB, None, (0, 1))
    (wide,) = plan_slots(1, range(16), ())
    assert [of_one_lane(in_lanes([wide], lanes)[0]).threads for lanes in (2, 3, 16, 32)] == [8, 5, 1, 1]


@pytest.mark.parametrize(
    ("workers", "exclusive", "on", "noted"),
    [
        (2, "GPU-0", False, True),
        (2, "GPU-0", True, False),
        (1, "GPU-0", False, False),
        (2, "GPU-1", False, False),
    ],
)
def test_gpus_that_one_process_may_use_are_noted_if_slots_share_them(
    monkeypatch: pytest.MonkeyPatch, workers: int, exclusive: str, on: bool, noted: bool
) -> None:
    monkeypatch.setattr(slots_module, "choose_gpus", lambda *_: (gpu("0", 80),))
    monkeypatch.setattr(slots_module, "usable_cores", lambda: Cores(usable=(0, 1), count=2))
    monkeypatch.setattr(slots_module, "exclusive_gpus", lambda: frozenset({exclusive}))
    mps = Mps(pipes=Path("/tmp/nvidia-mps"), has_pipes=on, has_process=on)
    monkeypatch.setattr(slots_module, "find_mps", lambda: mps)
    _, notes = slots_module.plan_here(workers, SlotOptions())
    assert [note.startswith("GPU GPU-0 allows one process at a time") for note in notes] == [True] * noted


def test_gpu_that_one_process_may_use_is_noted_if_lanes_share_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slots_module, "choose_gpus", lambda *_: (gpu("0", 80),))
    monkeypatch.setattr(slots_module, "usable_cores", lambda: Cores(usable=(0, 1), count=2))
    monkeypatch.setattr(slots_module, "exclusive_gpus", lambda: frozenset({"GPU-0"}))
    monkeypatch.setattr(
        slots_module, "find_mps", lambda: Mps(pipes=Path(), has_pipes=False, has_process=False)
    )
    _, (note,) = slots_module.plan_here(1, SlotOptions(lanes=4))
    assert "so trials that cannot share a program with others will fail" in note
    assert note.endswith("or leave --lanes out")
