"""Which GPUs are found and chosen, with drivers made up here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from hpo.devices import gpus
from hpo.devices.gpus import (
    DriverFailedError,
    Gpu,
    choose_gpus,
    compute_capabilities,
    installed_gpus,
    is_full,
    visible_gpus,
)
from hpo.errors import GpuMissingError, UsageError

MIB = 2**20
TWO = """0, GPU-1111aaaa-0000-0000-0000-000000000000, NVIDIA H200, 143771, Disabled
1, GPU-2222bbbb-0000-0000-0000-000000000000, NVIDIA T4, 15360, [N/A]"""
PARTITIONED = """0, GPU-1111aaaa-0000-0000-0000-000000000000, NVIDIA H200, 143771, Enabled
1, GPU-2222bbbb-0000-0000-0000-000000000000, NVIDIA H200, 143771, Enabled
2, GPU-3333cccc-0000-0000-0000-000000000000, NVIDIA H200, 143771, Disabled"""
LIST = """GPU 0: NVIDIA H200 (UUID: GPU-1111aaaa-0000-0000-0000-000000000000)
  MIG 3g.71gb     Device  0: (UUID: MIG-aaaa1111-0000-0000-0000-000000000000)
  MIG 1g.18gb     Device  1: (UUID: MIG-bbbb2222-0000-0000-0000-000000000000)
GPU 1: NVIDIA H200 (UUID: GPU-2222bbbb-0000-0000-0000-000000000000)
GPU 2: NVIDIA H200 (UUID: GPU-3333cccc-0000-0000-0000-000000000000)"""

Driver = Callable[..., None]


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Driver:
    """Puts an `nvidia-smi` on the path that answers the two questions it may be asked; none without it."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(gpus, "DRIVER", tmp_path / "proc")
    tools = tmp_path / "bin"
    tools.mkdir()
    monkeypatch.setenv("PATH", str(tools))

    def install(query: str, listed: str = "", code: str = "") -> None:
        program = tools / "nvidia-smi"
        program.write_text(
            f"#!/bin/sh\n{code}\ncase $1 in\n--query-gpu=index,uuid,name,memory.total,mig.mode.current)"
            f" printf '{query}\n';;\n-L) printf '{listed}\n';;\n*) exit 2;; esac\n"
        )
        program.chmod(0o755)

    return install


def test_gpus_listed_by_the_driver(driver: Driver) -> None:
    assert installed_gpus() == ()
    driver(TWO)
    assert installed_gpus() == visible_gpus()
    first, second = installed_gpus()
    assert first == Gpu("0", "GPU-1111aaaa-0000-0000-0000-000000000000", "NVIDIA H200", 143771 * MIB)
    assert (second.label, second.memory_bytes) == ("1", 15360 * MIB)


@pytest.mark.parametrize(
    ("answer", "found"), [("9.0\n7.5\n9.0", {7.5, 9.0}), ("[N/A]", set()), ("no such field", set())]
)
def test_compute_capabilities(driver: Driver, answer: str, found: set[float]) -> None:
    assert compute_capabilities() == set()
    driver(TWO, code=f"[ $1 = --query-gpu=compute_cap ] && echo '{answer}' && exit 0")
    assert compute_capabilities() == found


def test_driver_without_compute_capability(driver: Driver) -> None:
    driver(TWO)
    assert compute_capabilities() == set()


def test_memory_shared_with_the_cpu_is_unknown(driver: Driver) -> None:
    driver("0, GPU-1111aaaa, NVIDIA GB10, [N/A], [N/A]")
    assert installed_gpus() == (Gpu("0", "GPU-1111aaaa", "NVIDIA GB10", None),)


def test_partitioned_gpu_is_listed_as_its_instances(driver: Driver) -> None:
    driver(PARTITIONED, LIST)
    assert [gpu.label for gpu in installed_gpus()] == ["0.0", "0.1", "2"]
    large, small, whole = installed_gpus()
    assert large.address == "MIG-aaaa1111-0000-0000-0000-000000000000"
    assert large.model == "NVIDIA H200 MIG 3g.71gb"
    assert whole.address.startswith("GPU-3333cccc")
    # Not more than there is: such an instance of an H200 has 16 GiB.
    assert small.memory_bytes is not None
    assert 15 * 2**30 < small.memory_bytes <= 16 * 2**30


def test_failing_driver_yields_no_gpus(driver: Driver) -> None:
    driver("", code="echo 'NVIDIA-SMI has failed' >&2; exit 9")
    assert visible_gpus() == ()
    with pytest.raises(DriverFailedError, match="NVIDIA-SMI has failed"):
        installed_gpus()


@pytest.mark.usefixtures("driver")
def test_kernel_module_is_read_without_nvidia_smi(tmp_path: Path) -> None:
    for bus, text in {
        "0000:04:00.0": "Model: \t\t NVIDIA H200\nGPU UUID: \t GPU-1111aaaa\nDevice Minor: \t 0\n",
        "0000:05:00.0": "Model: \t\t NVIDIA H200\nGPU UUID: \t GPU-????????\nDevice Minor: \t 1\n",
    }.items():
        folder = tmp_path / "proc" / bus
        folder.mkdir(parents=True)
        (folder / "information").write_text(text)
    assert [(gpu.label, gpu.address, gpu.memory_bytes) for gpu in installed_gpus()] == [
        ("0", "GPU-1111aaaa", None),
        ("1", "1", None),
    ]


@pytest.mark.parametrize(
    ("variable", "found"),
    [
        ("", []),
        ("-1", []),
        ("NoDevFiles", []),
        ("0", [("0", "0", 143771)]),
        ("1, 0", [("1", "1", 15360), ("0", "0", 143771)]),
        ("GPU-2222", [("1", "GPU-2222bbbb-0000-0000-0000-000000000000", 15360)]),
        # CUDA ignores entries after the first unknown one.
        ("1,7,0", [("1", "1", 15360)]),
        ("1,-1,0", [("1", "1", 15360)]),
    ],
)
def test_cuda_visible_devices_limits_the_gpus(
    driver: Driver, monkeypatch: pytest.MonkeyPatch, variable: str, found: list[tuple[str, str, int]]
) -> None:
    driver(TWO)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", variable)
    assert [(gpu.label, gpu.address, (gpu.memory_bytes or 0) // MIB) for gpu in visible_gpus()] == found


@pytest.mark.parametrize(
    ("variable", "address"), [("0", "0"), ("MIG-bbbb", "MIG-bbbb2222-0000-0000-0000-000000000000")]
)
def test_mig_instance_is_visible_by_uuid(
    driver: Driver, monkeypatch: pytest.MonkeyPatch, variable: str, address: str
) -> None:
    driver(PARTITIONED, LIST)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", variable)
    assert [gpu.address for gpu in visible_gpus()] == [address]


@pytest.mark.usefixtures("driver")
@pytest.mark.parametrize(
    ("variable", "addresses"), [("1,3", ["1", "3"]), ("GPU-8f2a", ["GPU-8f2a"]), ("NoDevFiles", []), ("", [])]
)
def test_cuda_visible_devices_is_trusted_without_a_driver(
    monkeypatch: pytest.MonkeyPatch, variable: str, addresses: list[str]
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", variable)
    assert [gpu.address for gpu in visible_gpus()] == addresses
    assert all(gpu.memory_bytes is None for gpu in visible_gpus())


@pytest.mark.parametrize(
    ("wanted", "device", "labels"),
    [
        (None, None, ["0", "1"]),
        ("all", None, ["0", "1"]),
        (None, "gpu", ["0", "1"]),
        ("none", None, []),
        (None, "cpu", []),
        ("none", "cpu", []),
        ("1", None, ["1"]),
        ("1,0", "gpu", ["1", "0"]),
        ("GPU-1111", None, ["0"]),
    ],
)
def test_gpus_are_chosen(driver: Driver, wanted: str | None, device: str | None, labels: list[str]) -> None:
    driver(TWO)
    assert [gpu.label for gpu in choose_gpus(wanted, device)] == labels


@pytest.mark.parametrize(
    ("wanted", "device", "words"),
    [
        ("all", "cpu", "contradict"),
        ("0", "cpu", "contradict"),
        ("none", "gpu", "contradict"),
        ("2", None, r"--gpus 2: no such GPU is visible \(visible: 0, 1;"),
        ("0,", None, "--gpus : no such GPU"),
    ],
)
def test_wrong_choice_is_refused(driver: Driver, wanted: str | None, device: str | None, words: str) -> None:
    driver(TWO)
    with pytest.raises(UsageError, match=words):
        choose_gpus(wanted, device)


@pytest.mark.usefixtures("driver")
def test_missing_gpu_is_refused() -> None:
    assert choose_gpus(None, None) == ()
    with pytest.raises(GpuMissingError, match=r"--gpus all.*hpo doctor"):
        choose_gpus("all", None)
    with pytest.raises(GpuMissingError, match="hpo doctor"):
        choose_gpus(None, "gpu")


@pytest.mark.parametrize(
    ("free", "full"), [("300", True), ("8192", False), ("[N/A]", False), ("No devices were found", False)]
)
def test_a_gpu_is_full_if_libraries_find_no_memory(driver: Driver, free: str, full: bool) -> None:
    assert not is_full("GPU-1111aaaa")
    driver(TWO)
    # A driver that does not know the question.
    assert not is_full("GPU-1111aaaa")
    driver(TWO, code=f'[ "$1 $3" = "--query-gpu=memory.free --id=GPU-1111aaaa" ] && echo "{free}" && exit')
    assert is_full("GPU-1111aaaa") == full
