"""The base class of objectives that tune a Keras model: write `build`, the rest is done for you.

Importing this module does not import Keras, because processes that never train read search spaces.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from objectives.augment import Augmentation, Mixing
from objectives.base import DataOptions, Description, Objective, Params, Run
from objectives.data.splits import Data
from objectives.data_options import TaskName
from objectives.device import Device
from objectives.runs import switches
from objectives.tasks import choice

if TYPE_CHECKING:
    import keras

    from objectives.training.programs import Programs


class KerasObjective(Objective):
    """Set `dataset`, `epochs`, `space` and `first`, and write `build`; this class trains, checkpoints and evaluates.

    The training loop uses these parameters, each optional in the space: `batch_size` (128), `optimizer`
    ("sgd" or "adam"), `learning_rate` (the peak, 0.001), `weight_decay` (0) and `momentum` (of SGD, 0.9). `build` uses
    all others.
    """

    metric: ClassVar[str] = "val_accuracy"
    """Name of the reported number to optimize; where a class sets none, that of its task."""
    direction: ClassVar[Literal["minimize", "maximize"]] = "maximize"
    """Direction of the metric, which a class sets only for a metric of its own."""
    task: ClassVar[TaskName] = "classes"
    """Kind of the targets: one of several classes, several labels at once, one of two classes, or numbers."""
    loss: ClassVar[str | Callable[[Any, Any], Any] | None] = None
    """A loss of Keras or its name, or a function of targets and outputs; None: cross-entropy, or the mean squared error
    of a regression."""
    metrics: ClassVar[Sequence[str | Callable[[Any, Any], float]] | None] = None
    """Metrics that each epoch reports as `val_…`: names of `objectives.tasks.metrics`, and functions of targets and
    outputs in NumPy; None: those of the task."""
    class_weight: ClassVar[Literal["balanced"] | Mapping[Any, float] | None] = None
    """Weight of each class, or of the examples that have a label, in the training loss, by name or number."""
    sampling: ClassVar[Literal["shuffled", "balanced"]] = "shuffled"
    """How an epoch draws examples: each once, or each class equally often."""
    dataset: ClassVar[str | Callable[[], Any] | None] = None  # type: ignore[assignment]
    """Name of a data set, or a function that returns `(x_train, y_train), (x_test, y_test)`; with `(x_val, y_val)` as
    the second of three pairs, trials are validated on these images and not on training images that are held out. None:
    the images that a study is given with `--data`."""
    classes: ClassVar[Sequence[str] | None] = None
    """Names of the classes, labels or targets of a data set of your own; None: those of the data, or numbers."""
    augmentation: ClassVar[Augmentation | None] = None
    """Random changes to the training images; None: no changes."""
    least_images_per_epoch: ClassVar[int] = 0
    """Least number of training images in an epoch: a smaller data set is passed through several times in each."""
    label_smoothing: ClassVar[float] = 0.0
    """Share of each label that the default loss of training spreads evenly over all classes; evaluation uses the plain
    labels. It has no effect on a regression."""

    mixing: ClassVar[Mixing | None] = None
    """Mixtures of two training examples (mixup, cutmix); None: no mixtures. Not for a regression."""
    weight_averaging: ClassVar[float | Literal["lookahead"] | None] = None
    """Decay of the exponential average of the weights that is validated and exported, such as 0.999; or "lookahead",
    which also trains on from the average; None: the weights themselves."""
    learning_rate_factors: ClassVar[Mapping[str, float]] = MappingProxyType({})
    """Factors of the learning rate by names of variables: "bias", and "beta" and "gamma" of normalizations."""
    schedule: ClassVar[Literal["cosine", "constant-decay"]] = "cosine"
    """How the learning rate falls from its peak: at once, or in the last fifth of the steps."""

    _data: Data | None = None
    _options = DataOptions()
    _programs: Programs | None = None
    """Traced programs that this process keeps for its later runs; None: each run traces its own."""
    _sets_metric: ClassVar[bool] = False
    """Whether a class has set `metric`, so that it does not follow from the task."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        given = vars(cls)
        if "metric" in given:
            cls._sets_metric = True
        elif "task" in given:
            cls.metric = cls._goal(cls.task)[0]
        # Set by this class, too, so that a subclass with another metric gets another direction.
        known = choice.direction(cls.metric)
        if "metric" in vars(cls) and "direction" not in given and known is not None:
            cls.direction = known

    @classmethod
    def _goal(cls, task: TaskName) -> tuple[str, Literal["minimize", "maximize"]]:
        """Return the metric and its direction for a task: those of the class as far as they apply to it."""
        if cls._sets_metric and cls.metric in choice.names(task, cls.metrics):
            return cls.metric, cls.direction
        metric = choice.default(task)
        return metric, choice.direction(metric) or cls.direction

    @classmethod
    def sets_direction(cls) -> bool:
        """Return whether the class that sets `metric`, or a subclass of it, sets `direction` too."""
        for base in cls.__mro__:
            if "direction" in vars(base) or "metric" in vars(base):
                return base is not KerasObjective and "direction" in vars(base)
        return False

    @classmethod
    def describe(cls, name: str, options: DataOptions | None = None) -> Description:
        """Return the class attributes as one value; with the options of a study, metric and direction fit its task."""
        builds_models = cls.train is KerasObjective.train
        found = replace(super().describe(name), builds_models=builds_models)
        task = (options.task if options is not None else None) or cls.task
        if builds_models:
            recipe = switches.switches(cls, KerasObjective)
            found = replace(found, metrics=choice.offered(task, cls.metrics), recipe=recipe)
        if task == cls.task:
            return found
        metric, direction = cls._goal(task)
        return replace(found, metric=metric, direction=direction)

    @classmethod
    def takes_folds(cls) -> bool:
        """Return whether it trains by this class's own loop, and on data that this class loads."""
        return cls.train is KerasObjective.train and cls.prepare is KerasObjective.prepare

    @classmethod
    def takes_restarts(cls) -> bool:
        """Return whether it trains by this class's own loop."""
        return cls.train is KerasObjective.train

    @classmethod
    def takes_images(cls) -> bool:
        """Return whether it has no data set of its own."""
        return cls.dataset is None

    @abstractmethod
    def build(self, params: Params, data: Data) -> keras.Model:
        """Return a model from inputs of `data.input_shape`, raw uint8 pixels for images, to `data.output_size` logits.

        It is not compiled; a softmax or sigmoid at its end is taken off.
        """

    def augment(self, data: Data) -> Augmentation | None:  # noqa: ARG002 - for subclasses
        """Return the random changes to the training images of `data`: `augmentation`, unless a subclass chooses."""
        return self.augmentation

    def optimizer(self, params: Params, steps: int) -> keras.optimizers.Optimizer:
        """Return the optimizer for `steps` batches in total; see `objectives.training.loop.optimizer`."""
        from objectives.training import loop

        return loop.optimizer(params, steps, self.schedule)

    def prepare(self, options: DataOptions, final: bool) -> None:
        """Import Keras and the training loop, and load the data as NumPy arrays, once for all runs.

        Raises:
            DataMissingError: the data set is not on this machine.
            DataDamagedError: the data set is invalid, or does not fit the task.
        """
        from objectives import backend

        backend.before_import()
        from objectives.data_loading import load_data

        # Accessed through the class, so that a plain function does not become a method.
        source, task = type(self).dataset, options.task or self.task
        self._data, self._options = load_data(source, self.classes, options, final, task), options
        # After the data, so that missing or damaged ones are reported without waiting for it.
        from objectives.training import loop  # noqa: F401

    def keep_programs(self) -> None:
        """Keep the traced programs of runs from now on, for later runs with models of the same shape."""
        from objectives.training.programs import Programs

        self._programs = self._programs or Programs()

    def keeps_program(self) -> bool:
        """Return whether the program of the last run may be used again."""
        from objectives import backend

        kept = self._programs is not None and self._programs.reusable
        return kept and not backend.current().drew_elsewhere

    def describe_data(self) -> str:
        """Return source, number of images and digest."""
        from objectives.data.description import describe

        return "" if self._data is None else describe(type(self).dataset, self._options, self._data)

    def data_warning(self) -> str:
        """Return a line on a part that the loaded data lack or that is invalid; empty if they are complete."""
        if self._data is not None and self._data.test_problem:
            return f"the test set, which hpo retrain needs, is invalid: {self._data.test_problem}; correct it"
        if self._data is None or self._data.has_test:
            return ""
        return "there is no test set, which hpo retrain needs: let the data function return a second pair before it"

    def check(self, params: Params, device: Device, metric: str | None = None) -> None:
        """Build the model of a configuration and compute its loss once, without training, after `prepare`.

        `metric` is that of the study; None: the objective's.

        Raises:
            ObjectiveBrokenError: no such model can train on the data.
            Exception: as `build`.
        """
        from objectives import backend

        assert self._data is not None
        backend.configure(device, 0)
        from objectives.training import trial_model

        objective, own = switches.applied(self, params, self.space, KerasObjective)
        trial_model.check(objective, own, self._data, metric or self.metric)

    def train(self, params: Params, run: Run) -> None:
        """Build and train the model, report each epoch and, in a final run, evaluate on the test set once."""
        from objectives import backend

        if self._data is None:
            self.prepare(DataOptions(), run.final)
        assert self._data is not None
        lane = backend.lane.current()
        programs = self._programs if lane is None else lane.programs
        from objectives.training import loop

        with backend.alone():
            backend.configure(run.device, run.seed, again=programs is not None)
            objective, own = switches.applied(self, params, self.space, KerasObjective)
            trial = loop.begin(objective, own, self._data, run, programs)
        trial.train()
