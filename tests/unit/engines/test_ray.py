"""The Ray engine without a cluster: commands of agents, environment and refused options."""

from __future__ import annotations

import socket
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from hpo.engines import ray as engine
from hpo.engines.ray import (
    RayUnreachableError,
    agent_command,
    check_address,
    check_shares,
    commands,
    launch,
)
from hpo.errors import MissingDependencyError, UsageError
from hpo.options.hosts import AgentOptions, RayOptions
from hpo.options.launch_request import LaunchRequest
from hpo.settings import Settings
from hpo.trackers import target

SETTINGS = Settings(
    home=Path("/h"),
    storage="postgresql://u:secret@server/d",
    data_dir=Path("/d"),
    results_dir=Path("/r"),
    checkpoints=Path("/c"),
)


def test_agent_command_passes_allotted_resources() -> None:
    command = agent_command(LaunchRequest(study="s"), 1)
    assert (command.cpus, command.gpus) == (1.0, 0.0)
    arguments = " ".join(command.arguments)
    assert (
        arguments == "worker --study s --workers 1 --gpus none --cores 1 --hung-after 1800 --precision auto"
    )

    options = RayOptions(cpus_per_worker=1.5, gpus_per_worker=0.25, workers_per_agent=2)
    request = LaunchRequest(study="s", agent=AgentOptions(hung_seconds=60, memory_bytes=2**30), ray=options)
    command = agent_command(request, 2)
    assert (command.cpus, command.gpus) == (3.0, 0.5)
    arguments = " ".join(command.arguments)
    assert "--workers 2 --gpus all --device gpu --gpu-share 0.5 --cores 3 --hung-after 60" in arguments
    assert arguments.endswith("--memory-per-worker 1073741824")
    # An agent with whole GPUs does not share them.
    assert "--gpu-share" not in agent_command(request, 4).arguments
    assert "--code" not in command.arguments
    assert agent_command(LaunchRequest(study="s", code="restart"), 1).arguments[-2:] == ("--code", "restart")


@pytest.mark.parametrize(
    ("workers", "each", "slots"),
    [(5, 2, ["2", "2", "1"]), (4, 4, ["4"]), (2, 4, ["2"]), (None, 1, ["1"] * 7)],
)
def test_workers_are_divided_into_agents(workers: int | None, each: int, slots: list[str]) -> None:
    cluster = SimpleNamespace(available_resources=lambda: {"CPU": 7.0, "memory": 1e9})
    request = LaunchRequest(study="s", workers=workers, ray=RayOptions(workers_per_agent=each))
    assert [command.arguments[4] for command in commands(cluster, request)] == slots


@pytest.mark.parametrize(
    ("cpus", "gpus", "workers"),
    [(2.0, 0.0, 8), (1.0, 0.25, 8), (1.0, 0.3, 6), (0.0, 0.0, 1), (100.0, 0.0, 1)],
)
def test_default_workers_fill_the_available_resources(cpus: float, gpus: float, workers: int) -> None:
    cluster = SimpleNamespace(available_resources=lambda: {"CPU": 16.0, "GPU": 2.0})
    request = LaunchRequest(study="s", ray=RayOptions(cpus_per_worker=cpus, gpus_per_worker=gpus))
    assert len(commands(cluster, request)) == workers


def test_fractional_gpus_above_one_are_refused() -> None:
    with pytest.raises(UsageError, match="--gpus-per-worker 2: a worker slot uses one GPU"):
        check_shares(RayOptions(gpus_per_worker=2.0), None)
    check_shares(RayOptions(gpus_per_worker=0.5, workers_per_agent=4), None)
    check_shares(RayOptions(gpus_per_worker=0.5, workers_per_agent=4), 6)
    check_shares(RayOptions(gpus_per_worker=0.1, workers_per_agent=10), None)
    with pytest.raises(UsageError, match=r"requests 1\.5 GPUs"):
        check_shares(RayOptions(gpus_per_worker=0.5, workers_per_agent=3), None)
    with pytest.raises(UsageError, match="an agent of 3 workers"):
        # The last agent gets the 3 workers left over, that is 1.5 GPUs.
        check_shares(RayOptions(gpus_per_worker=0.5, workers_per_agent=4), 7)


@pytest.mark.parametrize(
    "address", ["here", "host:", ":6379", "host:port", "local", "127.0.0.1:99999", "host:0"]
)
def test_malformed_address_is_refused(address: str) -> None:
    with pytest.raises(UsageError, match=f"--address {address}: use auto, or host:port"):
        check_address(address)


def test_address_without_a_listener_is_unreachable(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(RayUnreachableError, match=f"at {address} "):
            check_address(address)
        monkeypatch.setenv("RAY_ADDRESS", address)
        with pytest.raises(RayUnreachableError, match="correct --address"):
            check_address("auto")
        server.listen()
        check_address(address)
        check_address(f"ray://{address}")


def test_agents_log_to_the_folder_of_the_launch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(target, "find_spec", lambda name: name)
    monkeypatch.chdir(tmp_path)
    request = LaunchRequest(study="s", agent=AgentOptions(log_to=("tensorboard:runs", "wandb")))
    arguments = engine.agent_command(request, 1).arguments
    assert arguments[-4:] == ("--log-to", f"tensorboard:{tmp_path}/runs", "--log-to", "wandb")


def test_agents_inherit_the_environment_of_the_launch(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "HPO_CHECKPOINTS": "relative/folder",
        "HPO_LEASE_SECONDS": "30",
        "HPO_STORAGE": "postgresql://another/one",
        "KERAS_BACKEND": "jax",
        "HPO_WORKERS": "9",
        "HPO_GPUS": "none",
        "HPO_STUDY": "another",
        "HPO_LOG_TO": "tensorboard:relative",
        "MLFLOW_TRACKING_TOKEN": "token",
        "SECRET": "mine",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("HPO_HOME", raising=False)
    passed = engine.environment(SETTINGS)
    assert passed["HPO_STORAGE"] == SETTINGS.storage
    assert passed["HPO_CHECKPOINTS"] == "/c"
    assert (passed["HPO_LEASE_SECONDS"], passed["KERAS_BACKEND"]) == ("30", "jax")
    # --data-dir was given; HPO_HOME was not, so each node uses its own.
    assert passed["HPO_DATA_DIR"] == "/d"
    assert passed.keys().isdisjoint(
        {"HPO_HOME", "HPO_WORKERS", "HPO_GPUS", "HPO_STUDY", "HPO_LOG_TO", "SECRET"}
    )
    assert passed["MLFLOW_TRACKING_TOKEN"] == "token"


def test_embedded_server_is_refused() -> None:
    embedded = replace(SETTINGS, storage=None)
    with pytest.raises(UsageError, match="a PostgreSQL server that every node can reach"):
        launch(LaunchRequest(study="s", objective="digits-cnn"), embedded)


def test_missing_ray_is_reported_with_its_installation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'hpo-service\[ray\]'"):
        launch(LaunchRequest(study="s", objective="digits-cnn"), SETTINGS)
