"""The Ray engine: Ray decides where agents run and restarts them when a node dies.

Ray's scheduler, restarts and autoscaler are used as they are: an agent is an actor that requests CPUs and
GPUs. The study itself makes a lost node harmless: leases expire, and trials resume elsewhere.
"""

from __future__ import annotations

import math
import os
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from hpo.agent.launch import prepare
from hpo.agent.next_steps import log_next_steps
from hpo.agent.outages import open_for_training, training_retry
from hpo.agent.store.snapshots import StudySnapshot
from hpo.engines.monitor import Monitor, signals
from hpo.engines.progress_feed import ProgressFeed
from hpo.engines.ray_agents import AgentCommand, RayAgents, one_line
from hpo.errors import HpoError, MissingDependencyError, UsageError
from hpo.options.hosts import RayOptions
from hpo.options.launch_request import LaunchRequest
from hpo.options.study_name import check_study_name
from hpo.process.shutdown import ExitCode
from hpo.settings import Settings
from hpo.study.definition.launched_study import LaunchedStudy
from hpo.terminal.log import set_study
from hpo.terminal.progress import open_progress
from hpo.trackers.target import parse_targets
from objectives import loader
from storage.engine import Database

MOST_PORT = 65_535
CONNECT_SECONDS = 5.0
"""Timeout of our own connection check: Ray itself tries an unreachable address for minutes."""

_PASSED = ("HPO_", "KERAS_", "TF_", "XLA_", "JAX_", "PG", "MLFLOW_", "WANDB_")
"""Prefixes of variables that agents receive; `PG` are those of libpq, which may hold the password."""
_OF_THIS_HOST = (
    "HPO_STUDY",
    "HPO_WORKERS",
    "HPO_GPUS",
    "HPO_DEVICE",
    "HPO_GPU_SHARE",
    "HPO_CORES",
    "HPO_LOG_TO",
)
_OF_THE_DASHBOARD = "HPO_DASHBOARD_"
"""Variables that the command line has already read, or that the engine decides."""


class RayUnreachableError(HpoError):
    """No Ray cluster answers at the address, or its version differs."""


def launch(request: LaunchRequest, settings: Settings) -> int:
    """Run the study on the cluster, with an actor for `workers_per_agent` slots each; this process monitors it.

    Raises:
        MissingDependencyError: Ray is not installed.
        RayUnreachableError: the cluster does not answer.
        UsageError: the storage is the embedded server, or a worker requests resources that Ray cannot allot.
    """
    check_study_name(request.study)
    set_study(request.study)
    if request.objective is not None:
        loader.resolve(request.objective)
    if settings.storage is None:
        raise UsageError(
            "--engine ray needs a PostgreSQL server that every node can reach, and the embedded server serves"
            " only this machine: set --storage postgresql://user:password@host/name, or HPO_STORAGE"
        )
    check_shares(request.ray, request.workers)
    parse_targets(request.agent.log_to)
    ray = _ray()
    check_address(request.ray.address)
    with open_for_training(settings) as database:
        study = prepare(database, request, settings)
        with _connected(ray, request.ray.address):
            agents = RayAgents(ray, commands(ray, request), environment(settings))
            try:
                return _monitor(database, study, agents, request.timeout_seconds)
            finally:
                agents.close()


def _monitor(
    database: Database, study: LaunchedStudy, agents: RayAgents, timeout_seconds: float | None
) -> int:
    interrupted = threading.Event()
    progress = open_progress()
    try:
        feed = ProgressFeed(database, study.study_id, study.name, training_retry(interrupted))
        monitor = Monitor(study, feed, agents, progress, interrupted, timeout_seconds)
        with signals(monitor):
            ending, status = monitor.run()
    finally:
        progress.close()
    if ending is ExitCode.DONE:
        log_next_steps(database, StudySnapshot(status.desired_state, status.counts, status.best), study)
    return int(ending)


def commands(ray: Any, request: LaunchRequest) -> list[AgentCommand]:
    """Return one command per agent; without `--workers`, as many workers as the cluster has room for now."""
    workers = request.workers or _room(ray.available_resources(), request.ray)
    check_shares(request.ray, workers)
    return [
        agent_command(request, count) for count in slots_of_agents(workers, request.ray.workers_per_agent)
    ]


def agent_command(request: LaunchRequest, slots: int) -> AgentCommand:
    """Return the command of an agent with `slots` slots. Ray allots the resources; the agent divides them."""
    cpus, gpus = slots * request.ray.cpus_per_worker, slots * request.ray.gpus_per_worker
    if gpus > 1:
        # Thirds of a GPU do not add up to exactly 1.
        gpus = float(round(gpus))
    arguments = ["worker", "--study", request.study, "--workers", str(slots)]
    arguments += ["--gpus", "all", "--device", "gpu"] if gpus else ["--gpus", "none"]
    if 0 < gpus < 1:
        # Ray shows the whole GPU to each of its users and limits none of them.
        arguments += ["--gpu-share", f"{gpus:g}"]
    # Ray counts cores, but does not pin processes to them.
    arguments += ["--cores", str(max(1, math.floor(cpus)))]
    arguments += ["--hung-after", f"{request.agent.hung_seconds:g}"]
    arguments += ["--precision", request.agent.slots.precision]
    if request.agent.backend is not None:
        arguments += ["--backend", request.agent.backend]
    if request.agent.slots.lanes is not None:
        arguments += ["--lanes", str(request.agent.slots.lanes)]
    if request.agent.memory_bytes is not None:
        arguments += ["--memory-per-worker", str(request.agent.memory_bytes)]
    if request.agent.fresh_processes:
        arguments += ["--fresh-processes"]
    # A folder is that of this host's working directory.
    arguments += [
        part for target in parse_targets(request.agent.log_to) for part in ("--log-to", target.option)
    ]
    if request.code is not None:
        arguments += ["--code", request.code]
    return AgentCommand(cpus, gpus, tuple(arguments))


def check_shares(options: RayOptions, workers: int | None) -> None:
    """Refuse GPU fractions that Ray cannot allot.

    Raises:
        UsageError: a slot requests more than the one GPU that it can use, or an agent several and not a whole number.
    """
    if options.gpus_per_worker > 1:
        raise UsageError(
            f"--gpus-per-worker {options.gpus_per_worker:g}: a worker slot uses one GPU, so the others would stay"
            " idle: use at most 1, and more --workers"
        )
    for slots in set(slots_of_agents(workers or options.workers_per_agent, options.workers_per_agent)):
        gpus = options.gpus_per_worker * slots
        if gpus > 1 and not math.isclose(gpus, round(gpus)):
            raise UsageError(
                f"an agent of {slots} workers with --gpus-per-worker {options.gpus_per_worker:g}"
                f" requests {gpus:g} GPUs, but Ray allots a whole number or a fraction of one GPU: change"
                " --workers-per-agent or --workers"
            )


def slots_of_agents(workers: int, each: int) -> list[int]:
    """Return the number of slots of each agent; the last one gets the remainder."""
    return [each] * (workers // each) + ([workers % each] if workers % each else [])


def check_address(address: str) -> None:
    """Check within seconds that the address is reachable.

    Raises:
        UsageError: the address is malformed.
        RayUnreachableError: no connection is possible.
    """
    wanted = (os.environ.get("RAY_ADDRESS") or "auto") if address == "auto" else address
    if wanted == "auto":
        return
    host, separator, port = wanted.removeprefix("ray://").rpartition(":")
    # The resolver of names takes the remainder of a port that is too large, where another program may listen.
    if not separator or not port.isdecimal() or not 0 < int(port) <= MOST_PORT or not host:
        raise UsageError(f"--address {wanted}: use auto, or host:port of the head of a Ray cluster")
    try:
        socket.create_connection((host, int(port)), CONNECT_SECONDS).close()
    except OSError as exc:
        reason = exc.strerror or exc
        raise RayUnreachableError(
            f"no Ray cluster answers at {wanted} ({reason}): start one (ray start --head), or correct --address"
        ) from exc


def environment(settings: Settings) -> dict[str, str]:
    """Return the environment variables that agents need from this process and its options.

    Not passed as Ray's runtime environment, which its dashboard shows: the URL may hold a password.
    """
    passed = {
        name: value
        for name, value in os.environ.items()
        if name.startswith(_PASSED) and name not in _OF_THIS_HOST and not name.startswith(_OF_THE_DASHBOARD)
    }
    paths = {
        "HPO_HOME": settings.home,
        "HPO_DATA_DIR": settings.data_dir,
        "HPO_CHECKPOINTS": settings.checkpoints,
        "HPO_RESULTS_DIR": settings.results_dir,
    }
    # Defaults are each node's own; explicit settings apply on every node.
    passed |= {name: str(path) for name, path in paths.items() if name in passed}
    if settings.data_dir != Settings.from_environment().data_dir:
        passed["HPO_DATA_DIR"] = str(settings.data_dir)
    assert settings.storage is not None
    passed["HPO_STORAGE"] = settings.storage
    return passed


def _ray() -> Any:
    try:
        import ray
    except ImportError as exc:
        raise MissingDependencyError(
            "--engine ray needs Ray, which is not installed: pip install 'hpo-service[ray]', here and on"
            " every node"
        ) from exc
    return ray


@contextmanager
def _connected(ray: Any, address: str) -> Iterator[None]:
    try:
        # Output of agents stays in Ray's logs; their trials are reported from the database.
        ray.init(address=address, namespace="hpo", log_to_driver=False, logging_level="ERROR")
    except (OSError, RuntimeError, ValueError) as exc:
        raise RayUnreachableError(
            f"no Ray cluster to join ({one_line(exc)}): start one (ray start --head), or set --address"
        ) from exc
    try:
        yield
    finally:
        ray.shutdown()


def _room(resources: Mapping[str, float], options: RayOptions) -> int:
    """Return the number of workers that fit, at least one; Ray leaves out resources that are fully used."""
    room = [
        resources.get(name, 0.0) / share
        for name, share in (("CPU", options.cpus_per_worker), ("GPU", options.gpus_per_worker))
        if share
    ]
    return max(1, math.floor(min(room, default=1.0) + 1e-9))
