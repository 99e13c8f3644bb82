"""The interface of objectives: subclass `Objective`, and report to the `Run` that you are given.

An objective declares a search space, the metric to optimize, and how to train one configuration:

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
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from typing import Any, ClassVar

from optuna.distributions import BaseDistribution

from objectives.data_options import DataOptions
from objectives.description import Description, Direction, Params
from objectives.device import Device, Precision
from objectives.errors import DivergedError, Infeasible, MetricMissingError, check_finite
from objectives.runs.run import Run, State
from objectives.spaces import choices
from objectives.spaces.conditions import When
from objectives.spaces.space import stored_space
from objectives.trial_value import ValueRule

__all__ = [
    "DataOptions",
    "Description",
    "Device",
    "Direction",
    "DivergedError",
    "Infeasible",
    "MetricMissingError",
    "Objective",
    "Params",
    "Precision",
    "Run",
    "State",
    "check_finite",
]

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
    value: ClassVar[ValueRule] = "last"
    """Which report is the value of a trial, unless `--value` sets another: that of its last epoch, or its best one."""
    epochs: ClassVar[int | None] = 1
    """Number of epochs of a trial, unless `--epochs` sets another; None: only the objective knows."""
    space: ClassVar[Mapping[str, BaseDistribution | When]] = {}
    """Parameter names to Optuna distributions, by `When` active only for some values of others. It is declared, so that
    it can be shown, narrowed, exported and validated without running anything."""
    open_space: ClassVar[bool] = False
    """Whether `train` asks for its parameters by `Run.suggest`, and `space` is empty."""
    first: ClassVar[Sequence[Params]] = ()
    """Known good configurations, tried before the sampler proposes any; each names every active parameter."""
    dataset: ClassVar[str | None] = None
    """Name of the data set, for display and `hpo explore`; optional."""
    study_space: Mapping[str, BaseDistribution] | None = None
    """The space that `prepare` is for, in its stored form: `space` as a study narrows it, or the values of the
    configurations that are trained; None: `space`."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        train = inspect.getattr_static(cls, "train")
        # An inherited one is checked already, unless it comes from a class that is not an objective.
        if inspect.isfunction(train) and not hasattr(train, "_checked"):
            cls.train = _checked(train)  # type: ignore[method-assign]

    def prepare(self, options: DataOptions, final: bool) -> None:  # noqa: B027 - optional hook
        """Import packages and load data once for all runs, which are forked from this process afterwards.

        If `final`, load the test set too, and train on the validation examples as well.
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
    def takes_images(cls) -> bool:
        """Return whether it has no data set and trains on images that a study is given with `--data`."""
        return False

    @classmethod
    def takes_folds(cls) -> bool:
        """Return whether its trials can be cross-validated in folds (`--folds`)."""
        return False

    @classmethod
    def takes_restarts(cls) -> bool:
        """Return whether `train` begins a new schedule after each of `Run.restarts`: `--epochs` can be raised then."""
        return False

    @classmethod
    def describe(cls, name: str) -> Description:
        """Return the class attributes as one value; `name` is the reference by which the user names the objective."""
        return Description(
            name=name,
            metric=cls.metric,
            direction=cls.direction,
            value=cls.value,
            epochs=cls.epochs,
            space=stored_space(cls.space),
            first=tuple(choices.stored_params(params, cls.space) for params in cls.first),
            open_space=cls.open_space,
            dataset=cls.dataset if isinstance(cls.dataset, str) else None,
            takes_images=cls.takes_images(),
            takes_folds=cls.takes_folds(),
            takes_restarts=cls.takes_restarts(),
            summary=(cls.__doc__ or "").strip().splitlines()[0] if cls.__doc__ else "",
        )
