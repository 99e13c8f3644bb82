"""The engine of a Ray cluster: Ray decides where agents run, and starts them again when a node dies.

Its scheduler, restarts and autoscaler are used as they are: an agent is an actor that asks for so many
CPUs and GPUs. What makes a lost node harmless is the study itself: leases run out, trials go on elsewhere.
"""

from __future__ import annotations

import math
import os
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from hpo.agent.launch import enroll_only, log_next_steps
from hpo.agent.outages import training_retry
from hpo.engines.monitor import Watch, signals
from hpo.engines.progress_feed import Feed
from hpo.engines.ray_agents import AgentCommand, RayAgents, one_line
from hpo.errors import HpoError, MissingDependencyError, UsageError
from hpo.options import LaunchRequest, RayOptions, check_study_name
from hpo.process.shutdown import ExitCode
from hpo.settings import Settings
from hpo.study.create import Enrolled
from hpo.terminal.log import set_study
from hpo.terminal.progress import open_progress
from objectives import loader
from storage.engine import Database, open_database

CONNECT_SECONDS = 5.0
"""Asked before Ray is, which tries an address where nobody listens for minutes."""

_PASSED = ("HPO_", "KERAS_", "TF_", "XLA_", "JAX_", "PG")
"""The last are libpq's own, which may hold the password."""
_OF_THIS_HOST = ("HPO_STUDY", "HPO_WORKERS", "HPO_GPUS", "HPO_DEVICE", "HPO_GPU_SHARE", "HPO_CORES")
_OF_THE_DASHBOARD = "HPO_DASHBOARD_"
"""What the command line has read already, or the engine decides."""


class RayUnreachableError(HpoError):
    """There is no Ray cluster at the address, or it is of another version."""


class RayEngine:
    """Places one actor for every `workers_per_agent` slots."""

    def launch(self, request: LaunchRequest, settings: Settings) -> int:
        """Run the study on the cluster; this process watches it.

        Raises:
            MissingDependencyError: Ray is not installed.
            RayUnreachableError: the cluster does not answer.
            UsageError: the storage is this machine's own, or a worker asks for what Ray cannot give.
        """
        check_study_name(request.study)
        set_study(request.study)
        if request.objective is not None:
            loader.resolve(request.objective)
        if settings.storage is None:
            raise UsageError(
                "--engine ray needs a PostgreSQL server that every node reaches, and the embedded one serves"
                " this machine alone: give --storage postgresql://user:password@host/name, or HPO_STORAGE"
            )
        check_shares(request.ray, request.workers)
        ray = _ray()
        check_address(request.ray.address)
        with open_database(settings.storage, settings.home) as database:
            study = enroll_only(database, request, settings)
            with _connected(ray, request.ray.address):
                agents = RayAgents(ray, commands(ray, request), environment(settings))
                try:
                    return _watch(database, study, agents, request.timeout_seconds)
                finally:
                    agents.close()


def _watch(database: Database, study: Enrolled, agents: RayAgents, timeout_seconds: float | None) -> int:
    interrupted = threading.Event()
    progress = open_progress()
    try:
        feed = Feed(database, study.study_id, study.name, training_retry(interrupted))
        watch = Watch(study, feed, agents, progress, interrupted, timeout_seconds)
        with signals(watch):
            ending, news = watch.run()
    finally:
        progress.close()
    if ending is ExitCode.DONE:
        log_next_steps(news.snapshot, study)
    return int(ending)


def commands(ray: Any, request: LaunchRequest) -> list[AgentCommand]:
    """One for each agent; without `--workers` as many workers as the cluster has room for now."""
    workers = request.workers or _room(ray.available_resources(), request.ray)
    check_shares(request.ray, workers)
    return [
        agent_command(request, count) for count in slots_of_agents(workers, request.ray.workers_per_agent)
    ]


def agent_command(request: LaunchRequest, slots: int) -> AgentCommand:
    """An agent of so many slots. The resources are Ray's to allot; the agent divides what it was given."""
    cpus, gpus = slots * request.ray.cpus_per_worker, slots * request.ray.gpus_per_worker
    if gpus > 1:
        # Thirds of a GPU do not add up to a whole one by themselves.
        gpus = float(round(gpus))
    arguments = ["worker", "--study", request.study, "--slots", str(slots)]
    arguments += ["--gpus", "all", "--device", "gpu"] if gpus else ["--gpus", "none"]
    if 0 < gpus < 1:
        # Ray shows the GPU to each who has a part of it, and limits nobody.
        arguments += ["--gpu-share", f"{gpus:g}"]
    # Ray counts cores, but leaves everybody on all of them.
    arguments += ["--cores", str(max(1, math.floor(cpus)))]
    arguments += ["--hung-after", f"{request.agent.hung_seconds:g}"]
    arguments += ["--precision", request.agent.slots.precision]
    if request.agent.memory_bytes is not None:
        arguments += ["--memory-per-worker", str(request.agent.memory_bytes)]
    return AgentCommand(cpus, gpus, tuple(arguments))


def check_shares(options: RayOptions, workers: int | None) -> None:
    """Refuse what Ray would.

    Raises:
        UsageError: an agent asks for more than one GPU, and not for a whole number.
    """
    for slots in set(slots_of_agents(workers or options.workers_per_agent, options.workers_per_agent)):
        gpus = options.gpus_per_worker * slots
        if gpus > 1 and not math.isclose(gpus, round(gpus)):
            raise UsageError(
                f"an agent of {slots} workers with --gpus-per-worker {options.gpus_per_worker:g}"
                f" asks for {gpus:g} GPUs, and Ray gives one, a part of one, or a whole number: change"
                " --workers-per-agent or --workers"
            )


def slots_of_agents(workers: int, each: int) -> list[int]:
    """How many slots each agent has; the last one has what is left."""
    return [each] * (workers // each) + ([workers % each] if workers % each else [])


def check_address(address: str) -> None:
    """Find out in seconds whether anybody listens there.

    Raises:
        UsageError: it is no address.
        RayUnreachableError: nobody does.
    """
    wanted = (os.environ.get("RAY_ADDRESS") or "auto") if address == "auto" else address
    if wanted == "auto":
        return
    host, separator, port = wanted.removeprefix("ray://").rpartition(":")
    if not separator or not port.isdecimal() or not host:
        raise UsageError(f"--address {wanted}: give auto, or host:port of the head of a Ray cluster")
    try:
        socket.create_connection((host, int(port)), CONNECT_SECONDS).close()
    except (OSError, OverflowError) as exc:
        reason = getattr(exc, "strerror", None) or exc
        raise RayUnreachableError(
            f"no Ray cluster answers at {wanted} ({reason}): start one (ray start --head), or correct --address"
        ) from exc


def environment(settings: Settings) -> dict[str, str]:
    """What agents must be told of this process's environment and options.

    Not as a runtime environment of Ray's, which its dashboard shows: the URL may hold a password.
    """
    passed = {
        name: value
        for name, value in os.environ.items()
        if name.startswith(_PASSED) and name not in _OF_THIS_HOST and not name.startswith(_OF_THE_DASHBOARD)
    }
    here = Settings.from_environment()
    paths = {
        "HPO_HOME": settings.home,
        "HPO_DATA_DIR": settings.data_dir,
        "HPO_CHECKPOINTS": settings.checkpoints,
        "HPO_RESULTS_DIR": settings.results_dir,
    }
    # Defaults are each node's own; what was given here holds there, wherever Ray stands.
    passed |= {name: str(path) for name, path in paths.items() if name in passed}
    if settings.data_dir != here.data_dir:
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
        # What agents print stays in Ray's logs; their trials are told of from the database.
        ray.init(address=address, namespace="hpo", log_to_driver=False, logging_level="ERROR")
    except (OSError, RuntimeError, ValueError) as exc:
        raise RayUnreachableError(
            f"there is no Ray cluster to join ({one_line(exc)}): start one (ray start --head),"
            " or give its --address"
        ) from exc
    try:
        yield
    finally:
        ray.shutdown()


def _room(resources: Mapping[str, float], options: RayOptions) -> int:
    """Workers that these resources suffice for, at least one; Ray does not name those that are all in use."""
    room = [
        resources.get(name, 0.0) / share
        for name, share in (("CPU", options.cpus_per_worker), ("GPU", options.gpus_per_worker))
        if share
    ]
    return max(1, math.floor(min(room, default=1.0) + 1e-9))
