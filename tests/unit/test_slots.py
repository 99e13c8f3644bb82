from __future__ import annotations

import pytest

from hpo.slots import plan_slots, usable_cores, visible_gpus


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
def test_workers_share_the_cores(
    workers: int | None, cores: tuple[int, ...], shares: list[tuple[int, ...]]
) -> None:
    slots = plan_slots(workers, cores, ())
    assert [slot.cores for slot in slots] == shares
    assert {slot.gpu for slot in slots} == {None}


def test_every_core_is_used_once() -> None:
    for workers in range(1, 17):
        used = [core for slot in plan_slots(workers, range(16), ()) for core in slot.cores]
        assert sorted(used) == list(range(16))


@pytest.mark.parametrize(
    ("workers", "gpus", "shares"),
    [
        (None, ("0", "1"), ["0", "1"]),
        (4, ("0", "1"), ["0", "1", "0", "1"]),
        (1, ("0", "1"), ["0"]),
        (2, ("GPU-8f2a",), ["GPU-8f2a", "GPU-8f2a"]),
    ],
)
def test_workers_share_the_gpus(workers: int | None, gpus: tuple[str, ...], shares: list[str]) -> None:
    assert [slot.gpu for slot in plan_slots(workers, (0, 1, 2, 3), gpus)] == shares


def test_names_are_short() -> None:
    assert [slot.name for slot in plan_slots(2, (0, 1, 2), ())] == ["cpu:0", "cpu:1-2"]
    assert [slot.name for slot in plan_slots(1, (0,), ("3",))] == ["gpu:3"]


@pytest.mark.parametrize(
    ("variable", "gpus"),
    [("", ()), ("-1", ()), ("0", ("0",)), ("1, 3", ("1", "3")), ("GPU-8f2a", ("GPU-8f2a",))],
)
def test_the_users_choice_of_gpus_is_respected(
    monkeypatch: pytest.MonkeyPatch, variable: str, gpus: tuple[str, ...]
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", variable)
    assert visible_gpus() == gpus


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch, tmp_path):
    """Puts an `nvidia-smi` of the given shell code on the path."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))

    def install(code: str) -> None:
        program = tmp_path / "nvidia-smi"
        program.write_text(f"#!/bin/sh\n{code}\n")
        program.chmod(0o755)

    return install


def test_gpus_are_those_that_the_driver_lists(driver) -> None:
    assert visible_gpus() == ()
    driver("printf '0\\n1\\n'")
    assert visible_gpus() == ("0", "1")
    driver("echo 'NVIDIA-SMI has failed' >&2; exit 9")
    assert visible_gpus() == ()


def test_there_is_at_least_one_core() -> None:
    assert len(usable_cores()) >= 1
