"""Requests that the command line builds from its options."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from pathlib import Path
from types import ModuleType

import click
import pytest

from hpo.cli.main import run
from hpo.cli.types import DURATION, SIZE
from hpo.engines import ray
from hpo.options.defaults import ENGINES
from hpo.options.hosts import RayOptions, SlotOptions
from hpo.options.launch_request import LaunchRequest
from hpo.options.retrain_request import RetrainRequest


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[tuple[object, ...]]:
    """Replaces launch and retrain by a function that records its calls and returns 130."""
    calls: list[tuple[object, ...]] = []

    def record(request: object, settings: object, _early: object = None) -> int:
        calls.append((request, settings))
        return 130

    launch, retrain = ModuleType("hpo.agent.launch"), ModuleType("hpo.retrain.retrain")
    launch.launch, launch.work, retrain.retrain = record, record, record  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "hpo.agent.launch", launch)
    monkeypatch.setattr("hpo.engines.base.EarlyTemplate", nullcontext)
    monkeypatch.setitem(sys.modules, "hpo.retrain.retrain", retrain)
    for name in ("HPO_STORAGE", "HPO_DATA_DIR", "HPO_WORKERS", "HPO_STUDY", "HPO_GPUS", "HPO_DEVICE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HPO_HOME", str(tmp_path))
    return calls


def test_omitted_options_have_defaults(called) -> None:
    assert run(["launch", "--study", "s"]) == 130
    ((request, settings),) = called
    assert request == LaunchRequest(study="s")
    assert settings.storage is None


def test_options_of_launch_reach_the_request(called, tmp_path: Path) -> None:
    command = (
        "launch --study s --objective o.py:C --workers 3 --trials 7 --timeout 2m --epochs 4 --limit 500 "
        "--trial-timeout 1h --target -0.25 --patience 20 --stop-when-flat --repeats 5 "
        "--sampler cmaes --pruner asha --seed 9 -p a=1,2 --param b=1..3 --max-failed 5 --space keep "
        "--storage postgresql://h/d"
    )
    run([*command.split(), "--data-dir", str(tmp_path)])
    ((request, settings),) = called
    assert request == LaunchRequest(
        study="s",
        objective="o.py:C",
        workers=3,
        trials=7,
        timeout_seconds=120.0,
        trial_timeout_seconds=3600.0,
        target=-0.25,
        patience=20,
        stop_when_flat=True,
        repeats=5,
        epochs=4,
        limit=500,
        sampler="cmaes",
        pruner="asha",
        seed=9,
        params=("a=1,2", "b=1..3"),
        max_failed=5,
        space="keep",
    )
    assert (settings.storage, settings.data_dir) == ("postgresql://h/d", tmp_path)


def test_limits_and_goals_are_removed_by_a_word(called, capsys) -> None:
    removed = "--target none --patience NONE --trial-timeout none --checkpoint-quota none --repeats none"
    run(["launch", "--study", "s", "--no-stop-when-flat", *removed.split()])
    ((request, _),) = called
    assert request == LaunchRequest(
        study="s",
        target="none",
        patience="none",
        trial_timeout_seconds="none",
        checkpoint_quota_bytes="none",
        stop_when_flat=False,
        repeats="none",
    )
    for option in ("--target", "--patience", "--trial-timeout", "--checkpoint-quota", "--repeats"):
        assert run(["launch", "--study", "s", option, "nothing"]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert ", or none (see hpo launch --help)" in line


def test_variables_replace_options(called, monkeypatch) -> None:
    monkeypatch.setenv("HPO_STUDY", "s")
    monkeypatch.setenv("HPO_WORKERS", "5")
    monkeypatch.setenv("HPO_STORAGE", "postgresql://h/d")
    run(["launch"])
    run(["worker"])
    (request, settings), (work, _) = called
    assert (request.study, request.workers, settings.storage) == ("s", 5, "postgresql://h/d")
    assert (work.study, work.workers) == ("s", 5)


def test_options_of_devices_and_ray(called, capsys) -> None:
    arguments = [
        "--address",
        "head:6379",
        "--workers",
        "32",
        "--gpus-per-worker",
        "0.25",
        "--workers-per-agent",
        "4",
    ]
    run(["launch", "--study", "s", "--gpus", "0,1", "--device", "gpu"])
    run(["worker", "--study", "s", "--gpus", "none", "--gpu-share", "0.5", "--cores", "2"])
    (request, _), (work, _) = called
    assert (request.engine, request.ray, request.agent.slots) == (
        "local",
        RayOptions(),
        SlotOptions(gpus="0,1", device="gpu"),
    )
    assert work.agent.slots == SlotOptions(gpus="none", gpu_share=0.5, cores=2)
    assert run(["launch", "--study", "s", *arguments]) == 2
    assert (
        "--address, --gpus-per-worker, --workers-per-agent: only with --engine ray" in capsys.readouterr().err
    )
    assert run(["launch", "--study", "s", "--engine", "ray", "--gpus", "0"]) == 2
    assert "use --gpus-per-worker" in capsys.readouterr().err


@pytest.mark.parametrize("engine", ENGINES)
def test_request_reaches_its_engine(called, monkeypatch, engine: str) -> None:
    in_cluster: list[LaunchRequest] = []
    monkeypatch.setattr(ray, "launch", lambda request, _: in_cluster.append(request) or 0)
    arguments = ["--address", "head:6379", "--cpus-per-worker", "2", "--gpus-per-worker", "0.25", "-w", "32"]
    run(["launch", "--study", "s", "--engine", engine, *(arguments if engine == "ray" else ())])
    # Without a run it does not matter where agents would be.
    run(["launch", "--study", "s", "--engine", engine, "--no-run"])
    assert (len(in_cluster), len(called)) == ((1, 1) if engine == "ray" else (0, 2))
    for request in in_cluster:
        assert request.workers == 32
        assert request.ray == RayOptions(address="head:6379", cpus_per_worker=2.0, gpus_per_worker=0.25)


def test_options_of_retrain_reach_the_request(called) -> None:
    run(["retrain", "--study", "s"])
    run(["retrain", "--study", "s", "--seeds", "5", "--epochs", "2", "--config", "b.yaml", "--workers", "1"])
    run(["retrain", "--study", "s", "--limit", "all"])
    run(["retrain", "--study", "s", "--limit", "500"])
    assert [call[0].limit for call in called] == [None, None, "all", 500]
    assert run(["retrain", "--study", "s", "--limit", "0"]) == 2
    assert called[0][0] == RetrainRequest(study="s", seeds=3)
    assert called[1][0] == RetrainRequest(study="s", seeds=5, epochs=2, config=Path("b.yaml"), workers=1)


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("90s", 90), ("15m", 900), ("2h", 7200), ("1.5H", 5400), ("1d", 86400)]
)
def test_duration_has_a_unit(text: str, seconds: float) -> None:
    assert DURATION.convert(text, None, None) == seconds


@pytest.mark.parametrize("text", ["", "m", "-5", "0", "nan", "inf", "5w", "ten"])
def test_wrong_duration_is_refused(text: str) -> None:
    with pytest.raises(click.BadParameter, match="90s"):
        DURATION.convert(text, None, None)


@pytest.mark.parametrize(
    ("text", "size"),
    [("4G", 4 << 30), ("500M", 500 << 20), ("1.5GiB", 3 << 29), ("2kb", 2048), ("7", 7), ("9b", 9)],
)
def test_size_has_binary_units(text: str, size: int) -> None:
    assert SIZE.convert(text, None, None) == size
    assert SIZE.convert(size, None, None) == size


@pytest.mark.parametrize("text", ["", "G", "-5G", "0.5", "nan", "inf", "5x", "5ki", "infG"])
def test_wrong_size_is_refused(text: str) -> None:
    with pytest.raises(click.BadParameter, match="500M"):
        SIZE.convert(text, None, None)
