"""The contract between an objective and whoever runs it.

An objective says what is tuned (a flat search space), on what metric, and how one
configuration is trained. It is told its parameters and a `Run` to report to, and knows
nothing of agents, databases or the command line. This module imports neither Keras nor
a database, so that a search space can be read anywhere in milliseconds.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

from optuna.distributions import BaseDistribution

Params = dict[str, Any]
"""One configuration: a value for each name of the search space."""

State = Mapping[str, Any]
"""What `Run.save` keeps: names to NumPy arrays, numbers, strings or lists of numbers."""


@dataclass(frozen=True)
class DataOptions:
    """Which part of a data set a study trains on."""

    data_dir: str | None = None
    """Folder that holds `<name>.npz`; None: only bundled or downloaded data."""
    limit: int | None = None
    """Training images kept (stratified), validation images in proportion; None: all."""
    validation_fraction: float = 0.1
    """Share of the training split held out to select models on."""
    split_seed: int = 0
    """Seed of the stratified train/validation split; the same for every trial of a study."""


Precision = Literal["auto", "float32", "bfloat16"]


@dataclass(frozen=True)
class Device:
    """What one worker slot owns, some processor cores or a GPU, and how it computes there."""

    name: str = "cpu"
    """How it is shown to the user: `cpu:0-1` or `gpu:0`."""
    cores: tuple[int, ...] = ()
    """Processor cores the trainer is pinned to; empty: not pinned."""
    gpu: str | None = None
    """Index or UUID of the GPU; None: no GPU is visible to the trainer."""
    gpu_memory_bytes: int | None = None
    """Most of the GPU's memory that the trainer may take, where others use the same GPU; None: no limit."""
    gpu_memory_fraction: float | None = None
    """The same as a share of all of it; known even where the size of the whole is not."""
    precision: Precision = "auto"
    """What layers compute in; weights, logits and the loss are float32 always. "auto": bfloat16 where
    the device has instructions for it (`objectives.backend.precision`), else float32."""
    owns: str = ""
    """All of it in words: `gpu 0 (1/2, 68.9 GiB), cores 0-3`."""

    @property
    def threads(self) -> int:
        """Threads a numeric library should use: one for each core, at least one."""
        return max(1, len(self.cores))


class Run(ABC):
    """One execution of one configuration, as its objective sees it."""

    seed: int
    """Seeds everything random: initial weights, order of the images, dropout, augmentation."""
    total_epochs: int
    """Epochs the run has in all; a learning rate schedule spans them."""
    device: Device
    final: bool
    """True when the configuration is being retrained: train on all training data, then open the
    test set once and `record` what it shows."""
    output: Path | None
    """Where a final run may write files (`model.keras`); None otherwise."""

    @property
    @abstractmethod
    def state(self) -> State | None:
        """What was last saved, when the run continues an interrupted one; None at a fresh start."""

    @abstractmethod
    def epochs(self) -> Iterator[int]:
        """The epochs still to do, counted from 1; ends early when the run is pruned or told to stop."""

    @abstractmethod
    def save(self, state: State) -> None:
        """Keep `state` in the checkpoint that the next `report` writes."""

    @abstractmethod
    def report(self, **metrics: float) -> None:
        """Close the current epoch with its metrics, the objective's own `metric` among them.

        Writes the checkpoint, reports, and waits a moment to hear whether to go on.

        Raises:
            MetricMissingError: the objective's metric is not among them.
            DivergedError: it, or a loss, is not finite.
        """

    @abstractmethod
    def tick(self, done: int, total: int, images: int = 0) -> None:
        """Say that the epoch is `done / total` finished, `images` seen in it; cheap, call it each batch."""

    @abstractmethod
    def record(self, **results: Any) -> None:
        """Keep a result of a final run: numbers, strings, nested lists (`confusion=[[…]]`)."""

    @abstractmethod
    def log(self, message: str) -> None:
        """Write a line to the attempt's log."""


class MetricMissingError(Exception):
    """`Run.report` was called without the objective's metric: a bug in the objective, not bad data."""


class DivergedError(Exception):
    """A loss is no longer finite; raise it, or report the value: both end the trial as diverged."""


def check_finite(metrics: Mapping[str, float], metric: str | None, epoch: int) -> None:
    """Raise DivergedError where the objective's metric, `loss` or `val_loss` is not finite after an epoch."""
    watched = dict.fromkeys([metric, "loss", "val_loss"])
    bad = [name for name in watched if name is not None and not math.isfinite(metrics.get(name, 0.0))]
    if bad:
        found = " and ".join(f"{name} is {metrics[name]}" for name in bad)
        raise DivergedError(f"{found} after epoch {epoch}")


@dataclass(frozen=True)
class Description:
    """What must be known of an objective to search over it, without running it."""

    name: str
    metric: str
    direction: Literal["minimize", "maximize"]
    epochs: int
    space: Mapping[str, BaseDistribution]
    first: Sequence[Params] = field(default_factory=tuple)
    dataset: str | None = None
    summary: str = ""


class Objective(ABC):
    """Something to tune: subclass it, set the class attributes, write `train`."""

    metric: ClassVar[str] = "loss"
    """Name of the reported number that is optimized."""
    direction: ClassVar[Literal["minimize", "maximize"]] = "minimize"
    epochs: ClassVar[int] = 1
    """Epochs of a trial unless the user asks otherwise."""
    space: ClassVar[Mapping[str, BaseDistribution]] = {}
    """Names to Optuna distributions; flat, so that it can be shown, narrowed, exported and checked."""
    first: ClassVar[Sequence[Params]] = ()
    """Known good configurations, tried before the sampler proposes any."""
    dataset: ClassVar[str | None] = None

    def prepare(self, options: DataOptions, final: bool) -> None:  # noqa: B027 - optional hook
        """Import and load once what all runs share; runs are forked afterwards and see it.

        With `final` the data must hold the test set, and validation images count as training images.
        Must not start threads or initialise a GPU: neither survives a fork.
        """

    @abstractmethod
    def train(self, params: Params, run: Run) -> None:
        """Train one configuration, reporting each epoch to `run`."""

    @classmethod
    def describe(cls, name: str) -> Description:
        """The class attributes as one value; `name` is what the user calls the objective."""
        return Description(
            name=name,
            metric=cls.metric,
            direction=cls.direction,
            epochs=cls.epochs,
            space=dict(cls.space),
            first=tuple(dict(params) for params in cls.first),
            dataset=cls.dataset if isinstance(cls.dataset, str) else None,
            summary=(cls.__doc__ or "").strip().splitlines()[0] if cls.__doc__ else "",
        )
