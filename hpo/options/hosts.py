"""Options of the hosts that train: their worker slots, their trainers and their place in a Ray cluster."""
# ruff: noqa: RUF009 - `option_field` returns a field of a dataclass, not a default

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from hpo.options.fields import COUNT, Range, option_field
from objectives.device import Precision

BACKENDS = ("tensorflow", "jax", "torch")
DEVICES = ("cpu", "gpu")
PRECISIONS = get_args(Precision)


@dataclass(frozen=True, kw_only=True)
class SlotOptions:
    """The part of a host that its worker slots share."""

    gpus: str | None = option_field(
        None,
        "GPUs to use: none, all, or indices or UUIDs from nvidia-smi, e.g. 0,1. Worker slots are spread over "
        "them; slots that share a GPU are each limited to their part of its memory.",
        metavar="LIST",
        envvar="HPO_GPUS",
        show_default="all",
    )
    device: str | None = option_field(
        None,
        "cpu: use no GPU. gpu: fail if there is none.",
        kind=DEVICES,
        envvar="HPO_DEVICE",
        show_default="GPUs if there are any",
    )
    lanes: int | Literal["auto"] | None = option_field(
        None,
        "Trials that one process trains at once for each worker slot, in one program: on a GPU, a small model uses "
        "a part of it only. For Keras objectives that train by the built-in loop, with --backend jax. auto: 1, 2, 4, … "
        "are measured before the first trial, until images per second stop growing or memory ends; the result is "
        "kept on this host.",
        kind=Range(1, 256),
        word="auto",
        envvar="HPO_LANES",
        show_default="1",
    )
    precision: Precision = option_field(
        "auto",
        "Compute precision of models; auto: bfloat16 where the device has instructions for it, else float32. "
        "Weights are always float32.",
        kind=PRECISIONS,
        envvar="HPO_PRECISION",
    )
    gpu_share: float = option_field(
        1.0,
        "Fraction of each GPU's memory for this agent, e.g. 0.25, when others use the same GPUs.",
        kind=Range(0.0, 1.0, low_open=True),
        metavar="SHARE",
        envvar="HPO_GPU_SHARE",
    )
    cores: int | None = option_field(
        None,
        "Cores that the worker slots share, when several agents run on one host: each takes cores that no "
        "other agent has taken with this option.",
        kind=COUNT,
        envvar="HPO_CORES",
        show_default="all usable ones",
    )


@dataclass(frozen=True, kw_only=True)
class AgentOptions:
    """Options of the trainers of one host."""

    slots: SlotOptions = SlotOptions()
    backend: str | None = option_field(
        None,
        "Keras' backend of trainers, the same for all trials of a study: tensorflow, jax (pip install "
        "'hpo-service[jax]') or torch.",
        kind=BACKENDS,
        show_default="the study's own, or KERAS_BACKEND, or tensorflow",
    )
    hung_seconds: float = option_field(
        1800.0,
        "Kill a trial or run without progress for this long; it resumes from its checkpoint like a lost one.",
        "--hung-after",
        kind="time",
        show_default="30m",
    )
    memory_bytes: int | None = option_field(
        None,
        "Memory limit per trial or run, beyond what all of them share, e.g. 4G. A trial that exceeds it ends "
        "as out of memory.",
        "--memory-per-worker",
        kind="size",
        envvar="HPO_MEMORY_PER_WORKER",
        show_default="no limit",
    )
    fresh_processes: bool = option_field(
        False,
        "Train each trial in a process of its own. By default a process that has traced the training step of a "
        "Keras model trains later models of the same shape too, with the same results in less time.",
        kind="flag",
        show_default="off",
    )
    log_to: tuple[str, ...] = option_field(
        (),
        "Log to an experiment tracker too: tensorboard, mlflow or wandb, perhaps with a target, e.g. "
        "tensorboard:runs, mlflow:http://host:5000 or wandb:project. Repeatable. A tracker that is down costs no "
        "trial (pip install 'hpo-service[mlflow]').",
        multiple=True,
        metavar="TRACKER[:TARGET]",
        envvar="HPO_LOG_TO",
        show_default="none",
    )


@dataclass(frozen=True, kw_only=True)
class RayOptions:
    """Placement of agents in a Ray cluster; an agent is an actor, placed as a whole."""

    address: str = option_field(
        "auto",
        "Ray: the cluster, as host:port of its head node.",
        metavar="ADDRESS",
        show_default="auto: this machine's cluster, or RAY_ADDRESS",
    )
    cpus_per_worker: float = option_field(
        1.0,
        "Ray: processor cores that each worker slot reserves on its node.",
        kind=Range(0.0, 1024.0),
        metavar="N",
    )
    gpus_per_worker: float = option_field(
        0.0,
        "Ray: GPUs per worker slot. With 0.25, four slots share a GPU, each limited to a quarter of its memory; "
        "at most 1.",
        kind=Range(0.0, 64.0),
        metavar="N",
        show_default="none",
    )
    workers_per_agent: int = option_field(
        1,
        "Ray: worker slots placed together on one node, as one agent. They share a process that has loaded "
        "Keras and the data, and database connections.",
        kind=COUNT,
    )
