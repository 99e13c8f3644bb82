"""What a user asks for, as values: the command line builds them, `hpo.agent.launch` and `hpo.retrain.retrain` obey.

This module imports nothing heavy, so that help texts can be made of it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from hpo.errors import UsageError

SAMPLERS = ("tpe", "random", "gp", "cmaes", "qmc")
PRUNERS = ("median", "asha", "hyperband", "none")
"""Both as in `hpo.search.spec`, which imports Optuna; a test compares them."""
SPACES = ("keep", "change")

_STUDY_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


class StudyNameError(UsageError):
    """A study's name is also a folder's: letters, digits, `.`, `_` and `-`, at most 100."""


def check_study_name(name: str) -> str:
    """The name itself, when a study may be called so.

    Raises:
        StudyNameError: it holds other characters, or too many.
    """
    if not _STUDY_NAME.fullmatch(name):
        raise StudyNameError(
            f"a study cannot be called {name!r}: use letters, digits, '.', '_' and '-', "
            "a letter or digit first, at most 100"
        )
    return name


@dataclass(frozen=True)
class LaunchDefaults:
    """What holds for a new study where `hpo launch` is not told otherwise."""

    trials: int = 50
    sampler: str = "tpe"
    pruner: str = "median"
    pruner_of_many: str = "asha"
    many_trials: int = 100
    """Trials from which on `pruner_of_many` is the better bargain: see docs/decisions.md."""
    seed: int = 0
    max_failed: int = 10
    max_lost: int = 3

    def pruner_for(self, trials: int) -> str:
        """The pruner of a study that begins with a budget of `trials`."""
        return self.pruner_of_many if trials >= self.many_trials else self.pruner


DEVICES = ("cpu", "gpu")
Precision = Literal["auto", "float32", "bfloat16"]
"""As `objectives.base.Precision`, whose module imports Optuna; a test compares them."""
PRECISIONS = get_args(Precision)


@dataclass(frozen=True)
class SlotOptions:
    """Which part of a host its slots share."""

    gpus: str | None = None
    """`none`, `all`, or indices and UUIDs separated by commas; None: all that are visible, if any."""
    device: str | None = None
    """`cpu`: no GPU; `gpu`: fail where there is none; None: what there is."""
    gpu_share: float = 1.0
    """Share of each GPU's memory that is ours; the rest is other agents'."""
    cores: int | None = None
    """Take so many cores, which no other agent of this host has taken so; None: all that are usable."""
    precision: Precision = "auto"
    """What trainers compute in: `auto` is bfloat16 where the device has instructions for it, else float32."""


@dataclass(frozen=True)
class AgentOptions:
    """What holds for the trainers of one host."""

    hung_seconds: float = 1800.0
    """Without any progress, after which a trainer is killed."""
    memory_bytes: int | None = None
    """Most memory that a trainer may take beyond what it shares with the others; None: no limit."""
    slots: SlotOptions = SlotOptions()


ENGINES = ("local", "ray")


@dataclass(frozen=True)
class RayOptions:
    """Where and with what share of a Ray cluster agents run."""

    address: str = "auto"
    """`auto`, the cluster of this machine or of RAY_ADDRESS, or `host:port` of its head."""
    cpus_per_worker: float = 1.0
    gpus_per_worker: float = 0.0
    workers_per_agent: int = 1
    """Slots of one agent: an actor, placed as a whole."""


@dataclass(frozen=True)
class LaunchRequest:
    """`hpo launch`; None means not given: the study's stored value holds, or the default."""

    study: str
    objective: str | None = None
    workers: int | None = None
    """Worker slots of this host; None: one for each GPU, or else for each usable core."""
    trials: int | None = None
    """Finished trials wanted in all, those of earlier launches included."""
    timeout_seconds: float | None = None
    epochs: int | None = None
    limit: int | None = None
    """Training images."""
    sampler: str | None = None
    pruner: str | None = None
    seed: int | None = None
    params: tuple[str, ...] = ()
    """`NAME=VALUE[,VALUE…]` or `NAME=LOW..HIGH`, as typed."""
    max_failed: int | None = None
    max_lost: int | None = None
    """Lost attempts after which a trial is failed."""
    checkpoint_quota_bytes: int | None = None
    """Most that the study's checkpoints may take."""
    agent: AgentOptions = AgentOptions()
    space: str | None = None
    """`keep` or `change`: how to go on when the search space changed since the study began."""
    engine: str = "local"
    """Where agents run: one of `ENGINES`."""
    ray: RayOptions = RayOptions()
    run: bool = True
    """False: the study is only created or extended, for agents that join it as workers."""


@dataclass(frozen=True)
class RetrainRequest:
    """`hpo retrain`."""

    study: str
    seeds: int = 3
    epochs: int | None = None
    """None: those of the configuration."""
    limit: int | Literal["all"] | None = None
    """Training images; None: those of the configuration."""
    config: Path | None = None
    """An exported configuration; None: the study's best trial, or `trial`."""
    trial: int | None = None
    """Number of a complete trial; None: the best one."""
    workers: int | None = None
    agent: AgentOptions = AgentOptions()
    top: int = 1
    """Best trials that compete for being retrained, from fresh seeds, on validation data."""
