"""Requests of a user as values: the command line builds them, `hpo.agent` and `hpo.retrain` execute them.

Each field carries its command-line option, from which `hpo.cli.options` builds the options of a command.
This module imports nothing heavy, so that help texts stay fast.
"""
# ruff: noqa: RUF009 - `_field` returns a field of a dataclass, not a default

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypedDict, Unpack, get_args

from hpo.errors import UsageError

SAMPLERS = ("tpe", "random", "gp", "cmaes", "qmc")
PRUNERS = ("median", "asha", "hyperband", "none")
"""Names that `hpo.search.samplers` and `hpo.search.pruners` build, which import Optuna; a test compares them."""
ENGINES = ("local", "ray")
SPACES = ("keep", "change")
DEVICES = ("cpu", "gpu")
NONE: Literal["none"] = "none"
"""Value of an option that removes a limit or a goal that a study has."""
Precision = Literal["auto", "float32", "bfloat16"]
"""The same as `objectives.base.Precision`, whose module imports Optuna; a test compares them."""
PRECISIONS = get_args(Precision)


@dataclass(frozen=True)
class Range:
    """Bounds of a number, included unless `low_open`: whole numbers if both bounds are whole."""

    low: float
    high: float
    low_open: bool = False


COUNT = Range(1, 1_000_000)
NUMBER = Range(0, 2**31 - 1)
"""Range of seeds and trial numbers, which the database stores in 32 bits."""
ANY_NUMBER = Range(-1e15, 1e15)
SLOTS = Range(1, 1024)

Kind = Range | tuple[str, ...] | Literal["text", "flag", "objective", "time", "size", "file"]
"""Type of an option's value; a tuple lists the choices."""


class OptionSpec(TypedDict, total=False):
    """The command-line option of a field as Click describes it, without its default, which the field has."""

    kind: Kind
    """Type of the value; "text" if it is not given."""
    word: str
    """Word that is accepted in place of a number."""
    metavar: str
    envvar: str
    """Environment variable that stands in for the option."""
    show_default: str
    """Default as the help shows it, where the field's own value would not explain itself."""
    multiple: bool
    hidden_names: tuple[str, ...]
    """Earlier spellings, which are accepted and not shown."""


_STUDY_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


class StudyNameError(UsageError):
    """The name of a study is also a folder's: at most 100 letters, digits, `.`, `_` and `-`."""


def check_study_name(name: str) -> str:
    """Return the name if it is valid.

    Raises:
        StudyNameError: the name holds other characters, or too many.
    """
    if not _STUDY_NAME.fullmatch(name):
        raise StudyNameError(
            f"invalid study name {name!r}: use letters, digits, '.', '_' and '-', "
            "a letter or digit first, at most 100"
        )
    return name


@dataclass(frozen=True, kw_only=True)
class LaunchDefaults:
    """Defaults of `hpo launch` for a new study."""

    trials: int = 50
    sampler: str = "tpe"
    pruner: str = "median"
    pruner_of_many: str = "asha"
    many_trials: int = 100
    """Budget from which `pruner_of_many` is more efficient: see docs/decisions.md."""
    seed: int = 0
    max_failed: int = 10
    max_lost: int = 3

    def pruner_for(self, trials: int) -> str:
        """Return the default pruner for a budget of `trials`."""
        return self.pruner_of_many if trials >= self.many_trials else self.pruner


def _for_new(value: object) -> str:
    return f"{value} for a new study, else the study's own"


def _field(default: Any, help_text: str, *names: str, **spec: Unpack[OptionSpec]) -> Any:
    """Return a field with an option; its spelling is the field's name, unless `names` has others."""
    return field(default=default, metadata={"help": help_text, "names": names, **spec})


_STUDY = {"help": "Name of the study.", "metavar": "NAME", "envvar": "HPO_STUDY"}


def _workers(help_text: str, hidden_names: tuple[str, ...] = ()) -> Any:
    return _field(
        None,
        help_text,
        "--workers",
        "-w",
        hidden_names=hidden_names,
        kind=SLOTS,
        envvar="HPO_WORKERS",
        show_default="one per GPU, else one per usable core",
    )


@dataclass(frozen=True, kw_only=True)
class SlotOptions:
    """The part of a host that its worker slots share."""

    gpus: str | None = _field(
        None,
        "GPUs to use: none, all, or indices or UUIDs from nvidia-smi, e.g. 0,1. Worker slots are spread over "
        "them; slots that share a GPU are each limited to their part of its memory.",
        metavar="LIST",
        envvar="HPO_GPUS",
        show_default="all",
    )
    device: str | None = _field(
        None,
        "cpu: use no GPU. gpu: fail if there is none.",
        kind=DEVICES,
        envvar="HPO_DEVICE",
        show_default="GPUs if there are any",
    )
    precision: Precision = _field(
        "auto",
        "Compute precision of models; auto: bfloat16 where the device has instructions for it, else float32. "
        "Weights are always float32.",
        kind=PRECISIONS,
        envvar="HPO_PRECISION",
    )
    gpu_share: float = _field(
        1.0,
        "Fraction of each GPU's memory for this agent, e.g. 0.25, when others use the same GPUs.",
        kind=Range(0.0, 1.0, low_open=True),
        metavar="SHARE",
        envvar="HPO_GPU_SHARE",
    )
    cores: int | None = _field(
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
    hung_seconds: float = _field(
        1800.0,
        "Kill a trial or run without progress for this long; it resumes from its checkpoint like a lost one.",
        "--hung-after",
        kind="time",
        show_default="30m",
    )
    memory_bytes: int | None = _field(
        None,
        "Memory limit per trial or run, beyond what all of them share, e.g. 4G. A trial that exceeds it ends "
        "as out of memory.",
        "--memory-per-worker",
        kind="size",
        envvar="HPO_MEMORY_PER_WORKER",
        show_default="no limit",
    )


@dataclass(frozen=True, kw_only=True)
class RayOptions:
    """Placement of agents in a Ray cluster; an agent is an actor, placed as a whole."""

    address: str = _field(
        "auto",
        "Ray: the cluster, as host:port of its head node.",
        metavar="ADDRESS",
        show_default="auto: this machine's cluster, or RAY_ADDRESS",
    )
    cpus_per_worker: float = _field(
        1.0,
        "Ray: processor cores that each worker slot reserves on its node.",
        kind=Range(0.0, 1024.0),
        metavar="N",
    )
    gpus_per_worker: float = _field(
        0.0,
        "Ray: GPUs per worker slot. With 0.25, four slots share a GPU, each limited to a quarter of its memory; "
        "at most 1.",
        kind=Range(0.0, 64.0),
        metavar="N",
        show_default="none",
    )
    workers_per_agent: int = _field(
        1,
        "Ray: worker slots placed together on one node, as one agent. They share a process that has loaded "
        "Keras and the data, and database connections.",
        kind=COUNT,
    )


@dataclass(frozen=True, kw_only=True)
class LaunchRequest:
    """Arguments of `hpo launch`; None means not given: the study's stored value applies, or the default."""

    study: str = field(metadata=_STUDY)
    objective: str | None = _field(
        None,
        "Objective to tune: a shipped name (see hpo objectives), package.module:Class or "
        "path/to/file.py:Class.",
        kind="objective",
        show_default="the study's own, or the objective of the study's name",
    )
    workers: int | None = _workers(
        "Worker slots: trials that run at the same time, each on its part of the cores or GPUs."
    )
    engine: str = _field(
        "local",
        "Where agents run: on this host, or as actors of a Ray cluster (pip install 'hpo-service[ray]').",
        kind=ENGINES,
    )
    ray: RayOptions = RayOptions()
    trials: int | None = _field(
        None,
        "Finished trials in total, earlier launches included. The same command again continues to this total; "
        "a larger number extends the study.",
        "--trials",
        "-n",
        kind=COUNT,
        show_default=_for_new(LaunchDefaults.trials),
    )
    timeout_seconds: float | None = _field(
        None,
        "Stop this long after the objective and its data are loaded, e.g. 90s, 15m or 2h. Running trials are "
        "checkpointed and continue at the next launch.",
        "--timeout",
        kind="time",
        show_default="none",
    )
    trial_timeout_seconds: float | Literal["none"] | None = _field(
        None,
        "End a trial that trains for longer than this as timed out, pauses excluded. It counts, and the sampler gets "
        "its last value. none: remove the study's limit.",
        "--trial-timeout",
        kind="time",
        word=NONE,
        show_default=_for_new("no limit"),
    )
    target: float | Literal["none"] | None = _field(
        None,
        "Start no further trial once a complete one reaches this value of the metric; running ones finish. none: "
        "remove the study's target.",
        kind=ANY_NUMBER,
        word=NONE,
        metavar="VALUE|none",
        show_default=_for_new("none"),
    )
    patience: int | Literal["none"] | None = _field(
        None,
        "Start no further trial once this many in a row have finished without a new best one. none: remove the "
        "study's patience.",
        kind=COUNT,
        word=NONE,
        show_default=_for_new("no limit"),
    )
    epochs: int | None = _field(
        None,
        "Epochs of a trial that is not pruned.",
        kind=COUNT,
        show_default="the objective's",
    )
    limit: int | None = _field(
        None,
        "Training images to use, stratified; validation images in proportion.",
        kind=COUNT,
        show_default="all",
    )
    sampler: str | None = _field(
        None,
        "Algorithm that proposes the next configuration; a launch may change it for the rest of a study.",
        kind=SAMPLERS,
        show_default=_for_new(LaunchDefaults.sampler),
    )
    pruner: str | None = _field(
        None,
        "Algorithm that ends unpromising trials early.",
        kind=PRUNERS,
        show_default=_for_new(
            f"{LaunchDefaults.pruner}, or {LaunchDefaults.pruner_of_many} from "
            f"{LaunchDefaults.many_trials} trials on,"
        ),
    )
    seed: int | None = _field(
        None,
        "Seed of the sampler and of every trial.",
        kind=NUMBER,
        show_default=_for_new(LaunchDefaults.seed),
    )
    params: tuple[str, ...] = _field(
        (),
        "Fix or narrow a parameter, e.g. batch_size=64,128 or learning_rate=1e-4..1e-2. Repeatable.",
        "--param",
        "-p",
        multiple=True,
        metavar="NAME=VALUES",
        show_default="the objective's whole space",
    )
    max_failed: int | None = _field(
        None,
        "Stop after this many failed trials (bugs, lost or hung ones); they do not count towards --trials.",
        kind=COUNT,
        show_default=_for_new(LaunchDefaults.max_failed),
    )
    max_lost: int | None = _field(
        None,
        "Fail a trial once it was lost this many times: its process killed or hung, or its machine gone.",
        kind=COUNT,
        show_default=_for_new(LaunchDefaults.max_lost),
    )
    checkpoint_quota_bytes: int | Literal["none"] | None = _field(
        None,
        "Limit for the study's checkpoints in total, e.g. 10G; spare ones and those of waiting trials are "
        "deleted first. none: remove the study's limit.",
        "--checkpoint-quota",
        kind="size",
        word=NONE,
        envvar="HPO_CHECKPOINT_QUOTA",
        show_default=_for_new("no limit"),
    )
    space: str | None = _field(
        None,
        "If the search space changed since the study began: keep the stored one, or change to the new one. "
        "All trials stay in the history.",
        kind=SPACES,
        show_default="refuse, and list the changes",
    )
    run: bool = _field(
        True,
        "Only create or extend the study; agents join it with hpo worker. A paused or stopped study stays so.",
        "--no-run",
        kind="flag",
        show_default="off",
    )
    agent: AgentOptions = AgentOptions()


@dataclass(frozen=True, kw_only=True)
class WorkRequest:
    """Arguments of `hpo worker`."""

    study: str = field(metadata=_STUDY)
    workers: int | None = _workers("Worker slots: trials that run here at the same time.", ("--slots",))
    agent: AgentOptions = AgentOptions()


@dataclass(frozen=True, kw_only=True)
class RetrainRequest:
    """Arguments of `hpo retrain`; None: those of the configuration."""

    study: str = field(metadata=_STUDY)
    seeds: int = _field(
        3, "Runs with different seeds; their mean and interval are reported.", kind=COUNT, metavar="K"
    )
    top: int = _field(
        1,
        "Best trials that compete first: each is trained again with --seeds new seeds, and the best mean on "
        "validation images wins, so that luck does not. The test set is not used.",
        kind=COUNT,
        metavar="K",
    )
    epochs: int | None = _field(
        None,
        "Epochs of each run.",
        kind=COUNT,
        show_default="those of the configuration",
    )
    limit: int | Literal["all"] | None = _field(
        None,
        "Training images, as for hpo launch; each run also trains on the validation images in proportion. all: "
        "a search on part of the images ends with a model of all of them.",
        kind=COUNT,
        word="all",
        show_default="those of the configuration",
    )
    config: Path | None = _field(
        None,
        "Train this exported configuration (YAML, JSON or TOML) instead.",
        kind="file",
        show_default="the study's best trial",
    )
    trial: int | None = _field(
        None, "Number of a complete trial, as shown by hpo trials.", kind=NUMBER, show_default="the best one"
    )
    workers: int | None = _workers("Worker slots: runs that train here at the same time.")
    agent: AgentOptions = AgentOptions()
