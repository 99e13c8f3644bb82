"""The interface of objectives: subclass `Objective`, and report to the `Run` that you are given.

An objective declares a flat search space, the metric to optimize, and how to train one configuration:

    class Quadratic(Objective):
        metric, direction, epochs = "loss", "minimize", 5
        space = {"x": FloatDistribution(-5.0, 5.0)}

        def train(self, params, run):
            for epoch in run.epochs():
                run.report(loss=(params["x"] - 2) ** 2 + 1 / epoch)

It knows nothing about agents, databases or the command line. For Keras image classifiers, subclass
`objectives.keras_objective.KerasObjective` instead. This module imports neither Keras nor a database, so that
any process can read a search space in milliseconds.
"""

from __future__ import annotations

import functools
import inspect
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from optuna.distributions import BaseDistribution

from objectives import choices

if TYPE_CHECKING:
    import keras

    from objectives.fitting.fits import Fits

Params = dict[str, Any]
"""One configuration: a value for each name of the search space."""

State = Mapping[str, Any]
"""Content of a checkpoint: names to NumPy arrays, numbers, strings, or lists and dicts of numbers and strings."""


@dataclass(frozen=True)
class DataOptions:
    """The part of a data set that a study trains on."""

    data_dir: str | None = None
    """Folder that holds `<name>.npz`; None: only bundled or downloaded data."""
    limit: int | None = None
    """Number of training images to use, stratified by class; validation images in proportion. None: all."""
    validation_fraction: float = 0.1
    """Share of the training images that is held out to select models."""
    split_seed: int = 0
    """Seed of the stratified train/validation split; the same for every trial of a study."""


Direction = Literal["minimize", "maximize"]

Precision = Literal["auto", "float32", "bfloat16"]
"""Type that layers compute in; "auto": bfloat16 where the device has instructions for it."""


@dataclass(frozen=True)
class Device:
    """The processor cores or the GPU of one slot, and the precision of its training."""

    name: str = "cpu"
    """Short name for display: `cpu:0-1` or `gpu:0`."""
    _: KW_ONLY
    cores: tuple[int, ...] = ()
    """Processor cores that the trainer is pinned to; empty: not pinned."""
    core_count: int | None = None
    """Number of cores whose time the trainer may use, pinned or not; None: as many as it is pinned to."""
    gpu: str | None = None
    """Index or UUID of the GPU; None: no GPU is visible to the trainer."""
    gpu_memory_bytes: int | None = None
    """GPU memory limit of the trainer where several slots share the GPU; None: no limit."""
    gpu_memory_fraction: float | None = None
    """The same limit as a share of the GPU's memory; known even where its size is not."""
    precision: Precision = "auto"
    """Type that layers compute in; weights, logits and the loss are always float32. `objectives.backend.precision`
    resolves "auto"."""
    owns: str = ""
    """Full description for display: `gpu 0 (1/2, 68.9 GiB), cores 0-3`."""

    @property
    def threads(self) -> int:
        """Number of threads for numeric libraries: one per core, at least one."""
        return max(1, self.core_count or len(self.cores))


class Run(ABC):
    """One execution of one configuration, as its objective sees it.

    Train in `for epoch in run.epochs()`, and end each epoch with `run.report(…)`.
    """

    seed: int
    """Seed of everything random: initial weights, order of the images, dropout, augmentation."""
    total_epochs: int
    """Total number of epochs of the run; a learning rate schedule spans them."""
    device: Device
    """Cores or GPU to train on; the trainer is already pinned to them."""
    final: bool
    """True when the best configuration is retrained: train on all training images, then evaluate on the test set
    once and `record` the results."""
    output: Path | None
    """Folder for the files of a final run (`model.keras`); None otherwise."""
    number: int = 0
    """Number of the trial in its study."""
    study: str = ""
    """Name of the study; empty in a run by hand."""
    direction: Direction = "minimize"
    """Direction in which the study optimizes the metric."""
    ended_early: bool = False
    """Whether `epochs` has refused an epoch, because the run was pruned or has to stop."""

    @property
    @abstractmethod
    def state(self) -> State | None:
        """State of the last checkpoint when the run resumes an interrupted one; None in a new run."""

    @abstractmethod
    def epochs(self) -> Iterator[int]:
        """Iterate over the remaining epochs, counted from 1; ends early when the run is pruned or stopped."""

    @abstractmethod
    def save(self, state: State) -> None:
        """Keep a copy of `state`, the state after this epoch, before or after its `report`.

        An interrupted run resumes after the epoch of the last state that was saved, else at epoch 1 without a state.

        Raises:
            ValueRefusedError: a value cannot be kept as it is.
        """

    @abstractmethod
    def report(self, **metrics: float) -> None:
        """Close the current epoch with its metrics, which must include the objective's `metric`.

        Writes a saved state, sends the metrics, and waits for the decision to continue, pause or prune.

        Raises:
            MetricMissingError: the objective's metric is missing, which a final run may omit, or no epoch is in
                progress.
            DivergedError: the metric or a loss is not finite.
        """

    @abstractmethod
    def tick(self, done: int, total: int, images: int = 0) -> None:
        """Report progress inside an epoch: `done` of `total` steps, `images` seen; cheap enough for every batch."""

    @abstractmethod
    def record(self, **results: Any) -> None:
        """Store results of a final run: numbers, strings, nested lists (`confusion=[[…]]`)."""

    @abstractmethod
    def log(self, message: str) -> None:
        """Write a line to the attempt's log."""

    # Keras' own training loop; nothing but these methods imports Keras.

    def fit(
        self, model: keras.Model, x: Any = None, y: Any = None, **options: Any
    ) -> keras.callbacks.History:
        """Train with `model.fit`: report each epoch's logs, end when pruned, and resume after the last epoch.

        `options` are those of `model.fit`; `epochs` is `total_epochs` unless given. Model, optimizer and the state of
        `callbacks` are saved after each epoch. Do not call `save` in the same run.

        Raises:
            MetricMissingError: the objective's metric is not among the logs of an epoch.
            DivergedError: the metric or a loss is not finite.
        """
        return self._fits.fit(model, x, y, options)

    def callbacks(self, callbacks: Any = None) -> list[keras.callbacks.Callback]:
        """Return all callbacks for a `model.fit` of your own, which then does what `fit` does.

        The state of the given ones is kept; further ones that you add are not.
        """
        return self._fits.callbacks(callbacks)

    def evaluate(self, model: keras.Model, x: Any = None, y: Any = None, **options: Any) -> dict[str, float]:
        """Evaluate with `model.evaluate` in a final run, record each metric as `test_…`, and write `model.keras`.

        Does nothing in a trial and in a run that has to stop, so that the test set stays unopened. Returns the results.
        """
        return self._fits.evaluate(model, x, y, options)

    @functools.cached_property
    def _fits(self) -> Fits:
        from objectives.fitting.fits import Fits

        return Fits(self)

    # For objectives with an open space, which name their parameters while they run.

    def suggest(self, name: str, distribution: BaseDistribution) -> Any:
        """Return the value of a parameter, a choice as it is declared; the same one whenever its trial asks again.

        Raises:
            ValueError: the objective declares its space, a study cannot store such a parameter, or another trial of the
                study has asked for it with other choices or of another kind.
            RunEndedError: the process has to end.
        """
        raise NotImplementedError(f"{type(self).__name__} suggests no parameters")

    def judge(self, value: float) -> None:  # noqa: B027 - for open spaces
        """Set the value by which the trial is judged, in place of its last report.

        Raises:
            DivergedError: it is not finite.
        """

    def annotate(self, name: str, value: Any) -> Any:
        """Keep a value as a user attribute of the trial in Optuna; return it as it was kept.

        Raises:
            ValueRefusedError: the name or the value cannot be kept.
        """
        raise NotImplementedError(f"{type(self).__name__} keeps no attributes")

    def constrain(self, name: str, value: float) -> float:
        """Keep a constraint of the trial in Optuna, above zero a violated one; return the value as it was kept.

        Raises:
            ValueRefusedError: the name or the value cannot be kept.
        """
        raise NotImplementedError(f"{type(self).__name__} keeps no constraints")

    @property
    def prune_advised(self) -> bool:
        """Whether the pruner would end this trial, which ends only if the objective raises `optuna.TrialPruned`."""
        return False

    def _training(
        self,
        objective: Objective,  # noqa: ARG002 - for runs with rules
        params: Params,  # noqa: ARG002
    ) -> AbstractContextManager[None]:
        """Return a context in which an objective trains these parameters."""
        return nullcontext()


class MetricMissingError(Exception):
    """`Run.report` was called without the objective's metric, or not once in each epoch: fix the objective."""


class MetricUnknownError(MetricMissingError):
    """A report has other metrics than the objective's: no trial of the study can end otherwise."""


class DivergedError(Exception):
    """A loss is not finite. Raise this error or report the value: both end the trial as diverged."""


class RunEndedError(BaseException):
    """The process has to end, in an objective without a loop over `Run.epochs`.

    No `Exception`, so that handlers of the objective let it pass.
    """


class Infeasible(Exception):
    """No model can be made from this configuration: the trial ends as infeasible, and the sampler avoids its like."""


def check_finite(metrics: Mapping[str, float], metric: str | None, epoch: int) -> None:
    """Raise DivergedError if the objective's metric, `loss` or `val_loss` is not finite after an epoch."""
    watched = dict.fromkeys([metric, "loss", "val_loss"])
    bad = [name for name in watched if name is not None and not math.isfinite(metrics.get(name, 0.0))]
    if bad:
        found = " and ".join(f"{name} is {metrics[name]}" for name in bad)
        raise DivergedError(f"{found} after epoch {epoch}")


@dataclass(frozen=True, kw_only=True)
class Description:
    """An objective's declarations: enough to search over it without importing or running it."""

    name: str
    metric: str
    direction: Direction
    epochs: int | None
    """Epochs of a trial that is not pruned; None: the objective alone knows, and the study chooses the direction."""
    space: Mapping[str, BaseDistribution]
    first: Sequence[Params] = field(default_factory=tuple)
    open_space: bool = False
    """Whether the objective names its parameters while it runs; `space` is empty then."""
    declares_direction: bool = True
    """Whether `direction` is the objective's own; else it is a default, and the study has its direction."""
    dataset: str | None = None
    summary: str = ""
    code: str = ""
    """Digest of the code that was loaded, see `objectives.code`; empty: not known."""


Train = Callable[..., Any]


def _checked(train: Train) -> Train:
    """Return `train` within the rules of its run, which learns the objective's declarations by it."""

    @functools.wraps(train)
    def checked(self: Objective, *args: Any, **kwargs: Any) -> Any:
        given = (*args, *kwargs.values())
        run = next((value for value in given if isinstance(value, Run)), None)
        params = next((value for value in given if isinstance(value, dict)), {})
        with run._training(self, params) if run is not None else nullcontext():
            return train(self, *args, **kwargs)

    checked._checked = True  # type: ignore[attr-defined]
    return checked


class Objective(ABC):
    """Base class of everything that can be tuned: set the class attributes and write `train`."""

    metric: ClassVar[str] = "loss"
    """Name of the reported number to optimize."""
    direction: ClassVar[Direction] = "minimize"
    epochs: ClassVar[int | None] = 1
    """Number of epochs of a trial, unless `--epochs` sets another; None: only the objective knows."""
    space: ClassVar[Mapping[str, BaseDistribution]] = {}
    """Parameter names to Optuna distributions; flat, so that it can be shown, narrowed, exported and validated."""
    open_space: ClassVar[bool] = False
    """Whether `train` asks for its parameters by `Run.suggest`, and `space` is empty."""
    first: ClassVar[Sequence[Params]] = ()
    """Known good configurations, tried before the sampler proposes any; each names every parameter."""
    dataset: ClassVar[str | None] = None
    """Name of the data set, for display and `hpo explore`; optional."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        train = inspect.getattr_static(cls, "train")
        # An inherited one is checked already, unless it comes from a class that is no objective.
        if inspect.isfunction(train) and not hasattr(train, "_checked"):
            cls.train = _checked(train)  # type: ignore[method-assign]

    def prepare(self, options: DataOptions, final: bool) -> None:  # noqa: B027 - optional hook
        """Import packages and load data once for all runs, which are forked from this process afterwards.

        If `final`, load the test set too, and train on the validation images as well.
        Close pools of threads and compute with no framework here: neither survives a fork, and each trial then prepares
        itself, which takes longer.
        """

    def describe_data(self) -> str:
        """Return the data that `prepare` has loaded as one line for display; empty if it is not known."""
        return ""

    @abstractmethod
    def train(self, params: Params, run: Run) -> None:
        """Train one configuration and report each epoch to `run`.

        Return when `run.epochs()` ends, or earlier where further epochs are useless: the trial is complete then, with
        the epochs that were reported.

        Raises:
            DivergedError: training cannot recover.
            Infeasible: the configuration cannot work, such as a kernel larger than its image.
            optuna.TrialPruned: further epochs are useless, and the trial counts as pruned. Any other exception fails
                the trial.
        """

    @classmethod
    def describe(cls, name: str) -> Description:
        """Return the class attributes as one value; `name` is the reference by which the user names the objective."""
        return Description(
            name=name,
            metric=cls.metric,
            direction=cls.direction,
            epochs=cls.epochs,
            space=choices.stored_space(cls.space),
            first=tuple(choices.stored_params(params, cls.space) for params in cls.first),
            open_space=cls.open_space,
            dataset=cls.dataset if isinstance(cls.dataset, str) else None,
            summary=(cls.__doc__ or "").strip().splitlines()[0] if cls.__doc__ else "",
        )
