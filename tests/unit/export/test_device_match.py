"""The device chosen to train a configuration again, and the differences reported."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from hpo.devices import provenance
from hpo.devices.cores import Cores
from hpo.devices.gpus import Gpu
from hpo.export import device_match
from objectives.device import Device

HERE = {"hpo-service": "1", "keras": "3.15.1", "numpy": "2.4", "tensorflow": "2.21", "optuna": "5"}
GPU = Gpu("0", "GPU-1111aaaa", "NVIDIA H200", 2**30)

Host = Callable[..., list[tuple[int, ...]]]


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Host:
    """Return a function that fakes a host and returns the cores that processes are pinned to."""
    monkeypatch.setenv("KERAS_BACKEND", "")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")

    def make(
        cores: tuple[int, ...] = (0, 1), gpus: tuple[Gpu, ...] = (), quota: int | None = None
    ) -> list[tuple[int, ...]]:
        pinned: list[tuple[int, ...]] = []
        found = Cores(usable=cores, count=quota or len(cores), pinned=quota is None)
        monkeypatch.setattr(device_match, "usable_cores", lambda: found)
        monkeypatch.setattr(device_match, "visible_gpus", lambda **_: gpus)
        monkeypatch.setattr(os, "sched_setaffinity", lambda _, cores: pinned.append(tuple(cores)))
        monkeypatch.setattr(provenance, "versions", lambda: dict(HERE))
        monkeypatch.setattr(provenance, "backend", lambda: os.environ["KERAS_BACKEND"] or "tensorflow")
        return pinned

    return make


@pytest.mark.parametrize(("cores", "used"), [(1, (4,)), (2, (4, 5))])
def test_device_has_as_many_cores_as_the_trial(
    host: Host, cores: int, used: tuple[int, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    pinned = host(cores=(4, 5), gpus=(GPU,))
    device = device_match.match_device({"cores": cores, "gpu": None}, "float32", "tensorflow", HERE)
    assert (device.cores, device.threads, device.precision, device.gpu) == (used, cores, "float32", None)
    assert pinned == [used]
    assert (os.environ["KERAS_BACKEND"], os.environ["CUDA_VISIBLE_DEVICES"]) == ("tensorflow", "-1")
    assert capsys.readouterr() == ("", "")


def test_device_within_a_quota_is_not_pinned(host: Host) -> None:
    pinned = host(cores=(4, 5, 6), quota=2)
    device = device_match.match_device({"cores": 4}, "float32", "tensorflow", HERE)
    assert (device.cores, device.threads, pinned) == ((), 2, [])


def test_device_has_a_gpu_if_the_trial_had_one(host: Host, capsys: pytest.CaptureFixture[str]) -> None:
    host(gpus=(GPU,))
    trained = {"cores": 2, "gpu": "3 (1/2, 68.9 GiB)"}
    device = device_match.match_device(trained, "bfloat16", "tensorflow", HERE)
    assert (device.gpu, device.gpu_memory_bytes, device.precision) == (GPU.address, None, "bfloat16")
    assert os.environ["CUDA_VISIBLE_DEVICES"] == GPU.address
    assert capsys.readouterr() == ("", "")
    host()
    assert device_match.match_device(trained, "bfloat16", "tensorflow", HERE).gpu is None
    assert capsys.readouterr().err == "trained with gpu 3 (1/2, 68.9 GiB) (here none): results may differ\n"


def test_differences_are_printed_in_one_line(host: Host, capsys: pytest.CaptureFixture[str]) -> None:
    host(cores=(0,))
    trained = {**HERE, "keras": "3.10.0", "no-such-backend": "1.0", "optuna": "4", "jax": "0.9"}
    device_match.match_device({"cores": 2, "gpu": None}, "float32", "no-such-backend", trained)
    assert capsys.readouterr().err == (
        "trained with 2 cores (here 1), keras 3.10.0 (here 3.15.1), no-such-backend 1.0 (here none),"
        " backend no-such-backend (here tensorflow): results may differ\n"
    )
    assert os.environ["KERAS_BACKEND"] == ""


def test_backend_of_the_environment_wins(
    host: Host, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    host()
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    device_match.match_device({"cores": 2}, "float32", "tensorflow", HERE)
    assert os.environ["KERAS_BACKEND"] == "jax"
    assert capsys.readouterr().err == "trained with backend tensorflow (here jax): results may differ\n"


def test_unknown_environment_uses_defaults(host: Host, capsys: pytest.CaptureFixture[str]) -> None:
    host()
    device = device_match.match_device({}, None, None, {})
    assert (device.threads, device.precision) == (1, Device().precision)
    assert capsys.readouterr().err == "trained with ? cores (here 1): results may differ\n"


def test_old_module_name_still_imports() -> None:
    from hpo.rerun import device_like

    assert device_like is device_match.match_device
