"""Checks of `hpo doctor` on simulated machines."""

from __future__ import annotations

import re
import shutil
import sys
from collections import namedtuple
from dataclasses import replace
from pathlib import Path

import pytest

from hpo import doctor
from hpo.agent.lanes import kept_speeds
from hpo.devices import slots
from hpo.devices.cores import Cores
from hpo.devices.mps import Mps
from hpo.errors import StorageUnreachableError
from hpo.options.hosts import SlotOptions
from hpo.settings import Settings
from objectives.backend.interface import BACKENDS
from objectives.lanes.rates import Measured

Usage = namedtuple("Usage", "total used free")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(
        home=tmp_path / "home",
        storage=None,
        data_dir=tmp_path / "data",
        results_dir=tmp_path / "results",
        checkpoints=tmp_path / "home/checkpoints",
    )


@pytest.fixture(autouse=True)
def found_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """No framework is imported to ask it."""
    monkeypatch.setattr(doctor, "gpus_of_backend", lambda _name: ["NVIDIA H200"])


@pytest.fixture
def check(monkeypatch: pytest.MonkeyPatch, settings: Settings):
    """Returns a check by its name; the storage does not answer."""

    def fail(*_: object, **__: object) -> None:
        raise StorageUnreachableError("no answer")

    monkeypatch.setattr("storage.opening.open_database", fail)
    return lambda name: {check.name: check for check in doctor.examine(settings)}[name]


def tool(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    program = folder / "nvidia-smi"
    program.write_text(f"#!{sys.executable}\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))


def test_lanes_that_a_launch_refuses_are_no_success(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KERAS_BACKEND", "tensorflow")
    (found,) = (
        one for one in doctor.examine(settings, 1, SlotOptions(gpus="none", lanes=4)) if one.name == "lanes"
    )
    assert found.result == "fail"
    assert found.detail.startswith("--lanes 4 needs JAX, and Keras uses tensorflow")


def test_lanes_that_were_chosen_are_shown(settings: Settings) -> None:
    def lanes(options: SlotOptions | None = None) -> list[str]:
        found = doctor.examine(settings, 1, options)
        return [check.detail for check in found if check.name == "lanes"]

    auto = SlotOptions(gpus="none", lanes="auto")
    assert lanes() == []
    assert lanes(auto) == ["--lanes auto: measured when an objective first trains here with JAX"]
    settings.home.mkdir(parents=True, exist_ok=True)
    speeds = [Measured(1, 1000.0), Measured(2, 1900.0), Measured(4, 1950.0)]
    kept_speeds.keep(settings.home, {"objective": "digits-cnn"}, 64, speeds)
    (shown,) = lanes()
    assert shown.startswith(
        "--lanes auto has chosen: digits-cnn: 2 (images/s 1: 1,000, 2: 1,900, 4: 1,950, measured 20"
    )
    assert lanes(auto) == [shown]


def test_unreachable_storage_fails(check) -> None:
    assert check("storage") == doctor.Check("storage", "fail", "no answer")


def test_gpus_and_devices_of_slots_are_listed(monkeypatch, tmp_path, settings: Settings) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(slots, "usable_cores", lambda: Cores(usable=tuple(range(8)), count=8))
    tool(tmp_path, monkeypatch, "print('0, GPU-8f2a, NVIDIA H200, 143771, Disabled')")
    checks = {check.name: check for check in doctor.examine(settings, workers=2)}
    assert checks["accelerators"] == doctor.Check("accelerators", "ok", "0: NVIDIA H200, 140.4 GiB")
    assert checks["slots"].detail == (
        "slot 0: gpu 0 (1/2, 69.2 GiB), cores 0-3; slot 1: gpu 0 (1/2, 69.2 GiB), cores 4-7"
    )
    checks = {check.name: check for check in doctor.examine(settings, 1, SlotOptions(gpus="none"))}
    assert checks["slots"].detail == "slot 0: cores 0-7"
    checks = {check.name: check for check in doctor.examine(settings, 1, SlotOptions(gpus="3"))}
    assert (checks["slots"].result, "--gpus 3" in checks["slots"].detail) == ("fail", True)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    hidden = {check.name: check for check in doctor.examine(settings)}["accelerators"]
    assert hidden.detail.endswith("(CUDA_VISIBLE_DEVICES=; the driver lists 1)")


def test_unknown_gpu_memory_is_a_warning(check, monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    assert check("accelerators").result == "warn"


def test_broken_driver_is_a_warning(check, monkeypatch, tmp_path) -> None:
    tool(tmp_path, monkeypatch, "raise SystemExit('driver mismatch')")
    assert check("accelerators").result == "warn"
    assert "driver mismatch" in check("accelerators").detail


def test_missing_nvidia_smi_is_ok(check, monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert check("accelerators").result == "ok"


@pytest.mark.parametrize(("free", "result"), [(10**6, "fail"), (2 * 1024**3, "warn"), (10**12, "ok")])
def test_disk_space(check, monkeypatch, free: int, result: str) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(free, 0, free))
    assert check("disk home").result == result


@pytest.mark.parametrize(
    ("folder", "variable"),
    [("home", "HPO_HOME"), ("checkpoints", "HPO_CHECKPOINTS"), ("results", "HPO_RESULTS_DIR")],
)
def test_unwritable_folder_fails(check, settings: Settings, folder: str, variable: str) -> None:
    in_the_way = {"home": settings.home, "checkpoints": settings.checkpoints, "results": settings.results_dir}
    in_the_way[folder].parent.mkdir(exist_ok=True)
    in_the_way[folder].write_bytes(b"")
    found = check(f"disk {folder}")
    assert found.result == "fail"
    assert str(in_the_way[folder]) in found.detail
    assert variable in found.remedy


@pytest.mark.parametrize(
    ("name", "result"), [("", "ok"), *((name, "ok") for name in BACKENDS), ("tensorflwo", "fail")]
)
def test_backend(check, monkeypatch, name: str, result: str) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: object())
    monkeypatch.setenv("KERAS_BACKEND", name)
    assert check("backend").result == result
    if result == "fail":
        assert "unknown KERAS_BACKEND 'tensorflwo' (use tensorflow, jax or torch)" in check("backend").detail


def test_data_sets(check, settings: Settings, monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    assert check("data digits").result == "ok"
    missing = check("data mnist")
    assert missing.result == "warn"
    assert "hpo data fetch mnist" in missing.remedy
    cached = tmp_path / "keras" / "datasets"
    cached.mkdir(parents=True)
    (cached / "mnist.npz").write_bytes(b"")
    assert "download cache" in check("data mnist").detail
    assert settings.data_dir is not None
    settings.data_dir.mkdir()
    (settings.data_dir / "mnist.npz").write_bytes(b"x")
    assert str(settings.data_dir) in check("data mnist").detail


ON = Mps(pipes=Path("/tmp/nvidia-mps"), has_pipes=True, has_process=True)
OFF = replace(ON, has_pipes=False, has_process=False)
HALF = replace(ON, has_pipes=False)


@pytest.mark.parametrize(
    ("mps", "workers", "mode", "result", "detail", "remedy"),
    [
        (ON, 2, "Default", "ok", "on (/tmp/nvidia-mps): slots of one GPU compute at the same time", ""),
        (ON, 2, "Exclusive_Process", "ok", "on (", ""),
        (OFF, 1, "Exclusive_Process", "ok", "off, and no slots share a GPU", ""),
        (OFF, 2, "Default", "warn", "off: slots of one GPU take turns", "nvidia-cuda-mps-control -d"),
        (
            OFF,
            2,
            "Exclusive_Process",
            "fail",
            "off, and GPU GPU-8f2a allows one process",
            "--compute-mode=DEFAULT",
        ),
        (HALF, 2, "Default", "warn", "off for this user: it runs, but not", "set CUDA_MPS_PIPE_DIRECTORY"),
        (
            replace(ON, has_process=False),
            2,
            "Default",
            "warn",
            "unknown: /tmp/nvidia-mps has",
            "in a container",
        ),
    ],
)
@pytest.mark.usefixtures("check")
def test_mps(
    monkeypatch, tmp_path, settings: Settings, mps: Mps, workers, mode, result, detail, remedy
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    modes = f"print('0, GPU-8f2a, {mode}') if 'compute_mode' in sys.argv[1] else"
    tool(tmp_path, monkeypatch, f"import sys; {modes} print('0, GPU-8f2a, NVIDIA H200, 143771, Disabled')")
    monkeypatch.setattr(doctor, "find_mps", lambda: mps)
    checks = {check.name: check for check in doctor.examine(settings, workers=workers)}
    assert checks["mps"].result == result
    assert checks["mps"].detail.startswith(detail)
    assert remedy in checks["mps"].remedy


def test_mps_is_no_concern_without_a_gpu(check, monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(KeyError):
        check("mps")


@pytest.mark.parametrize(
    ("found", "result", "detail"),
    [
        (["NVIDIA H200"], "ok", "which finds NVIDIA H200, driver 580.65"),
        ([], "warn", "which finds no GPU, driver 580.65: trials on a GPU fail or train on the CPU"),
    ],
)
def test_backend_that_finds_no_gpu_warns(
    check, monkeypatch, tmp_path, found: list[str], result: str, detail: str
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    version = "print('580.65') if 'driver_version' in sys.argv[1] else"
    tool(tmp_path, monkeypatch, f"import sys; {version} print('0, GPU-8f2a, NVIDIA H200, 143771, Disabled')")
    monkeypatch.setattr(doctor, "gpus_of_backend", lambda _name: found)
    assert check("backend").result == result
    assert check("backend").detail.endswith(detail)


def test_backend_names_its_version(check) -> None:
    assert re.fullmatch(r"tensorflow \S+, on the CPU", check("backend").detail)
