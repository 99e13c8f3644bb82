"""The run that an objective trains in: it gives the epochs, keeps states, and takes reports and results."""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from optuna.distributions import BaseDistribution

from objectives.description import Direction, Params
from objectives.device import Device

if TYPE_CHECKING:
    import keras

    from objectives.base import Objective
    from objectives.fitting.fits import Fits

State = Mapping[str, Any]
"""Content of a checkpoint: names to NumPy arrays, numbers and strings, or to lists, tuples and dicts of these."""


class Run(ABC):
    """One execution of one configuration, as its objective sees it.

    Train in `for epoch in run.epochs()`, and end each epoch with `run.report(…)`.
    """

    seed: int
    """Seed of everything random: initial weights, order of the examples, dropout, augmentation."""
    total_epochs: int
    """Total number of epochs of the run; a learning rate schedule spans them, or its part after the last restart."""
    restarts: Sequence[int] = ()
    """Epochs after which optimizer and schedule begin again, because the study's `--epochs` was raised."""
    device: Device
    """Cores or GPU to train on; the trainer is already pinned to them."""
    final: bool
    """True when the best configuration is retrained: train on all training examples, then evaluate on the test set
    once and `record` the results."""
    output: Path | None
    """Folder for the files of a final run (`model.keras`); None otherwise."""
    number: int = 0
    """Number of the trial in its study."""
    study: str = ""
    """Name of the study; empty in a run by hand."""
    direction: Direction = "minimize"
    """Direction in which the study optimizes the metric."""
    figures: Sequence[str] = ()
    """Names of the figures that the study asks for, by `--constraint` and `--also-minimize`."""
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

    def measure(self, **figures: float) -> None:  # noqa: B027 - for studies that ask for figures
        """Give figures that are known before the first epoch, such as `parameters=model.count_params()`.

        `figures` has the names that the study asks for; others are ignored. The service measures those of Keras models
        in `fit` and in a KerasObjective, and takes any metric of `report` for a figure too.

        Raises:
            Infeasible: one violates a constraint of the study, so that the trial ends.
        """

    @abstractmethod
    def record(self, **results: Any) -> None:
        """Store results of a final run: numbers, strings, nested lists (`confusion=[[…]]`)."""

    @abstractmethod
    def log(self, message: str) -> None:
        """Write a line to the attempt's log."""

    # Keras' own training loop; nothing but these methods imports Keras.

    def fit(
        self, model: keras.Model, x: Any = None, y: Any = None, *further: Any, **options: Any
    ) -> keras.callbacks.History:
        """Train with `model.fit`: report each epoch's logs, end when pruned, and resume after the last epoch.

        `further` and `options` are those of `model.fit`; `epochs` is `total_epochs` unless given. Model, optimizer and
        the state of `callbacks` are saved after each epoch. Do not call `save` in the same run.

        Raises:
            MetricMissingError: the objective's metric is not among the logs of an epoch.
            DivergedError: the metric or a loss is not finite.
        """
        return self._fits.fit(model, x, y, further, options)

    def callbacks(self, callbacks: Any = None) -> list[keras.callbacks.Callback]:
        """Return all callbacks for a `model.fit` of your own, which then does what `fit` does.

        The state of the given ones is kept; further ones that you add are not.
        """
        return self._fits.callbacks(callbacks)

    def evaluate(
        self, model: keras.Model, x: Any = None, y: Any = None, *further: Any, **options: Any
    ) -> dict[str, float]:
        """Evaluate with `model.evaluate` in a final run, record each metric as `test_…`, and write `model.keras`.

        Does nothing in a trial and in a run that has to stop, so that the test set stays unopened. Returns the results.
        """
        return self._fits.evaluate(model, x, y, further, options)

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
