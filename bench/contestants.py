"""Contestants that do the same job: the service, plain Optuna, KerasTuner and Ray Tune, each started cold.

All are measured by the time and validation accuracy of each epoch of each trial, which the service keeps in its
tables and the peers' scripts in a file. Clocks start with the command.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psutil
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from bench.jobs import mnist_job
from bench.sandbox import Sandbox

ONE_THREAD = {"OMP_NUM_THREADS": 1, "TF_NUM_INTRAOP_THREADS": 1, "TF_NUM_INTEROP_THREADS": 1}


@dataclass(frozen=True, kw_only=True)
class Job:
    """A search to run, two trials at a time."""

    objective: str
    """Name of a class of `bench.jobs.mnist_job`."""
    trials: int
    epochs: int
    seed: int = 0
    known_good: bool = False
    target: float | None = None
    """Validation accuracy at which the clock stops; None: at the end of all trials."""
    limit_seconds: float = 3600.0
    variables: dict[str, object] = field(default_factory=dict)
    """Environment variables."""


@dataclass(frozen=True)
class EpochSeen:
    """One finished epoch of one trial."""

    at: float
    """Time of its end in seconds since 1970."""
    trial: str
    value: float


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Result of a contestant."""

    seconds: float | None = None
    """Seconds from the command to the end of the job or to the target; None if it was not reached."""
    best: float | None = None
    """Highest validation accuracy after any epoch."""
    trials: int = 0
    epochs: int = 0
    cpu_seconds: float = 0.0
    """Processor time of the whole machine, other processes included."""
    problem: str = ""
    out_of_time: bool = False
    """Whether it was stopped at the time limit."""


@dataclass(frozen=True, kw_only=True)
class Contestant:
    """Functions that start the job and read its results."""

    name: str
    start: Callable[[Sandbox, Job], list[subprocess.Popen[bytes]]]
    seen: Callable[[Sandbox], list[EpochSeen]]
    prepare: Callable[[Sandbox], object] | None = None
    """Preparation before the clock starts."""
    package: str = "optuna"
    """Package that the contestant needs."""
    variables: Mapping[str, object] = field(default_factory=dict)
    """Environment variables."""
    takes_known_good: bool = True
    """Whether it can begin with a given configuration."""

    @property
    def missing(self) -> bool:
        return find_spec(self.package) is None

    def run(self, job: Job) -> Outcome:
        """Run the job once, in a new sandbox."""
        if self.missing:
            return Outcome(problem=f"{self.package} is not installed: `make bench` installs it")
        job = replace(job, variables={**self.variables, **job.variables})
        with Sandbox() as sandbox:
            if self.prepare is not None:
                self.prepare(sandbox)
            began_at, cpu = time.time(), _cpu_seconds()
            processes = self.start(sandbox, job)
            done, problem, out_of_time = None, "", False
            while done is None and not problem:
                time.sleep(0.1 if job.target is None else 1.0)
                seen = self.seen(sandbox) if job.target is not None else []
                reached = [epoch.at for epoch in seen if epoch.value >= (job.target or 1.0)]
                codes = [process.poll() for process in processes]
                if reached:
                    done = min(reached)
                elif any(codes):
                    problem = f"ended with {codes}: {sandbox.log_tail()}"
                elif all(code == 0 for code in codes):
                    done = time.time()
                    problem = "all trials done below the target" if job.target is not None else ""
                elif time.time() - began_at > job.limit_seconds:
                    problem, out_of_time = f"not done after {job.limit_seconds:.0f} s", True
            cpu = _cpu_seconds() - cpu
            seen = self.seen(sandbox)
        return Outcome(
            seconds=None if problem or done is None else done - began_at,
            best=max((epoch.value for epoch in seen), default=None),
            trials=len({epoch.trial for epoch in seen}),
            epochs=len(seen),
            cpu_seconds=cpu,
            problem=problem,
            out_of_time=out_of_time,
        )


def _cpu_seconds() -> float:
    times = psutil.cpu_times()
    # Ray starts its workers with `nice`.
    return float(times.user + times.nice + times.system)


# The service.


def _start_service(sandbox: Sandbox, job: Job) -> list[subprocess.Popen[bytes]]:
    name = "MnistWholeKnown" if job.known_good else job.objective
    arguments = ["launch", "--study", "bench", "--objective", f"{mnist_job.__file__}:{name}", "--workers", 2]
    arguments += ["--trials", job.trials, "--epochs", job.epochs, "--seed", job.seed]
    # The pruner of plain Optuna, whatever the budget, whose size means nothing if the target ends the search.
    arguments += ["--pruner", "median"]
    return [sandbox.start(["-m", "hpo.cli", *arguments], sandbox.environment(**job.variables))]


def _seen_by_service(sandbox: Sandbox) -> list[EpochSeen]:
    # The service starts its database itself, as part of its time.
    if not (sandbox.home / "logs").exists():
        return []
    engine = create_engine(sandbox.url, poolclass=NullPool)
    with engine.connect() as connection:
        rows = connection.execute(
            text(
                "SELECT extract(epoch FROM created_at)::float8 AS at, reservation_id::text AS trial,"
                " (metrics->>'val_accuracy')::float8 AS value FROM hpo.epochs"
            )
        )
        return [EpochSeen(row.at, row.trial, row.value) for row in rows]


# The peers.


def _seen_in_files(sandbox: Sandbox) -> list[EpochSeen]:
    lines = [line for path in sandbox.folder.glob("epochs-*.jsonl") for line in path.read_text().splitlines()]
    values: list[dict[str, Any]] = [json.loads(line) for line in lines]
    return [EpochSeen(value["at"], str(value["trial"]), value["value"]) for value in values]


def peer_arguments(sandbox: Sandbox, job: Job, module: str, trials: int, seed: int) -> list[object]:
    arguments: list[object] = ["-m", f"bench.peers.{module}", "--objective", job.objective]
    arguments += ["--folder", sandbox.folder, "--trials", trials, "--epochs", job.epochs, "--seed", seed]
    return arguments + (["--known-good"] if job.known_good else [])


def make_optuna_study(sandbox: Sandbox) -> None:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    optuna.create_study(study_name="bench", storage=sandbox.url, direction="maximize")


def _start_optuna(sandbox: Sandbox, job: Job) -> list[subprocess.Popen[bytes]]:
    if job.known_good:
        import optuna

        optuna.load_study(study_name="bench", storage=sandbox.url).enqueue_trial(mnist_job.KNOWN_GOOD)
    environment = sandbox.environment(BENCH_STORAGE=sandbox.url, **job.variables)
    shares = [job.trials // 2, job.trials - job.trials // 2]
    return [
        sandbox.start(peer_arguments(sandbox, job, "plain_optuna", share, 2 * job.seed + index), environment)
        for index, share in enumerate(shares)
    ]


def _start_kerastuner(sandbox: Sandbox, job: Job) -> list[subprocess.Popen[bytes]]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    arguments = peer_arguments(sandbox, job, "kerastuner", job.trials, job.seed)
    started = [
        sandbox.start(
            arguments,
            sandbox.environment(
                KERASTUNER_TUNER_ID=tuner,
                KERASTUNER_ORACLE_IP="127.0.0.1",
                KERASTUNER_ORACLE_PORT=port,
                **job.variables,
            ),
        )
        for tuner in ("chief", "tuner0", "tuner1")
    ]
    # The chief checks only every 20 s whether its workers have ended, which is not counted.
    return started[1:]


def _start_ray(sandbox: Sandbox, job: Job) -> list[subprocess.Popen[bytes]]:
    arguments = peer_arguments(sandbox, job, "raytune", job.trials, job.seed)
    return [sandbox.start(arguments, sandbox.environment(**job.variables))]


SERVICE = Contestant(name="hpo launch", start=_start_service, seen=_seen_by_service)
PEERS = (
    Contestant(
        name="Optuna + model.fit", start=_start_optuna, seen=_seen_in_files, prepare=make_optuna_study
    ),
    Contestant(
        name="KerasTuner",
        start=_start_kerastuner,
        seen=_seen_in_files,
        package="keras_tuner",
        takes_known_good=False,
    ),
    Contestant(name="Ray Tune", start=_start_ray, seen=_seen_in_files, package="ray"),
)
KEYS = dict(zip(("hpo", "optuna", "kerastuner", "ray"), (SERVICE, *PEERS), strict=True))
"""Contestants by their names on the command line."""
TUNED = {
    "optuna-1-thread": replace(KEYS["optuna"], name="Optuna + model.fit, 1 thread", variables=ONE_THREAD),
    "kerastuner-1-thread": replace(KEYS["kerastuner"], name="KerasTuner, 1 thread", variables=ONE_THREAD),
    "ray-reused": replace(KEYS["ray"], name="Ray Tune, actors reused", variables={"BENCH_REUSE_ACTORS": 1}),
}
"""Peers with a documented setting that makes them faster."""

NOTES = (
    "All contestants use the same images, split, network (`objectives.architectures.cnn`, 32-64-128), space and "
    "machine, and train two trials at a time. Each is started cold by one command, which starts its clock. "
    "Validation accuracy is the highest after any epoch of any trial.",
    "`hpo launch`: default settings, with its learning rate schedule (warm-up, cosine), in bfloat16 where the "
    "processor has it; its time includes the creation of its embedded PostgreSQL. The peers train in float32 at a "
    "constant learning rate with `model.compile` and `model.fit`, as their guides show. `learning_rate` is the peak "
    "of the service's schedule and the constant rate of the peers.",
    "Optuna: two processes of `study.optimize`, TPE and MedianPruner, half of the trials each, on a private "
    "PostgreSQL of the same kind; server and study exist before the clock starts.",
    "KerasTuner: BayesianOptimization, which prunes no trials, with a chief and two workers set up by its environment "
    "variables; the clock stops when both workers have ended, not when the chief notices.",
    "Ray Tune: OptunaSearch and ASHA (grace period 1 epoch), two trials at once of one core each; the images "
    "lie in its object store. Actors are not reused (the default) unless the row mentions it.",
    "Threads: defaults (TensorFlow: one for each core in every process; `hpo launch`: one core for each slot), or, "
    "where the row mentions it, OMP_NUM_THREADS, TF_NUM_INTRAOP_THREADS and TF_NUM_INTEROP_THREADS set to 1.",
)


def quick_variables() -> dict[str, object]:
    """Return the variables of smoke runs: 1,200 images, synthetic ones without MNIST."""
    found = (Path(os.environ.get("HPO_DATA_DIR", "")) / "mnist.npz").is_file()
    variables: dict[str, object] = {"BENCH_IMAGES": 1200}
    return variables if found else variables | {"BENCH_SYNTHETIC": 1}


CHOICES = f"names from {', '.join(KEYS | TUNED)}, separated by commas; NAME:ROUNDS limits the rounds of one"
"""Help of `--contestants`."""


def parse_contestants(value: str) -> list[tuple[Contestant, int | None]]:
    """Return contestants, each with the number of its rounds; None: all rounds.

    Raises:
        argparse.ArgumentTypeError: a name is unknown or a number of rounds is invalid.
    """
    found = []
    for item in value.split(","):
        name, colon, rounds = item.partition(":")
        if name not in KEYS | TUNED or (colon and not (rounds.isdecimal() and int(rounds))):
            raise argparse.ArgumentTypeError(f"{item!r} is invalid: give {CHOICES}")
        found.append(((KEYS | TUNED)[name], int(rounds) if colon else None))
    return found


def in_turn(
    contestants: Sequence[tuple[Contestant, int | None]], round_number: int, rounds_before: int = 0
) -> list[Contestant]:
    """Return the contestants of a round; each round begins with another one, counting earlier rounds too."""
    now = [contestant for contestant, rounds in contestants if rounds is None or round_number < rounds]
    turn = (rounds_before + round_number) % max(1, len(now))
    return [*now[turn:], *now[:turn]]
