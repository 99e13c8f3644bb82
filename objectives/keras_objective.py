"""The base class of objectives that tune a Keras image classifier: write `build`, the rest is done for you.

Importing this module does not import Keras, because processes that never train read search spaces.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from objectives.augment import Augmentation
from objectives.base import DataOptions, Objective, Params, Run
from objectives.data.splits import Data

if TYPE_CHECKING:
    import keras


REPORTED = ("val_accuracy", "val_loss", "accuracy", "loss", "learning_rate", "images_per_second")
"""Names of the metrics that the training loop reports after each epoch of a trial."""


class KerasObjective(Objective):
    """Set `dataset`, `epochs`, `space` and `first`, and write `build`; this class trains, checkpoints and evaluates.

    The training loop uses these parameters, each optional in the space: `batch_size` (128), `optimizer`
    ("sgd" or "adam"), `learning_rate` (the peak, 0.001) and `weight_decay` (0). `build` uses all others.
    """

    metric: ClassVar[str] = "val_accuracy"
    direction: ClassVar[Literal["minimize", "maximize"]] = "maximize"
    dataset: ClassVar[str | Callable[[], Any] | None] = None  # type: ignore[assignment]
    """Name of a data set, or a function that returns `(x_train, y_train), (x_test, y_test)`; with `(x_val, y_val)` as
    the second of three pairs, trials are validated on these images and not on training images that are held out. None:
    the images that a study is given with `--data`."""
    classes: ClassVar[Sequence[str] | None] = None
    """Names of the labels of a data set of your own; None: their numbers."""
    augmentation: ClassVar[Augmentation | None] = None
    """Random changes to the training images; None: no changes."""
    least_images_per_epoch: ClassVar[int] = 0
    """Least number of training images in an epoch: a smaller data set is passed through several times in each."""
    label_smoothing: ClassVar[float] = 0.0
    """Share of each label that training spreads evenly over all classes; evaluation uses the plain labels."""

    _data: Data | None = None
    _options = DataOptions()

    @classmethod
    def takes_images(cls) -> bool:
        """Return whether it has no data set of its own."""
        return cls.dataset is None

    @abstractmethod
    def build(self, params: Params, data: Data) -> keras.Model:
        """Return a model from raw uint8 pixels of `data.image_shape` to `data.class_count` logits, not compiled."""

    def augment(self, data: Data) -> Augmentation | None:  # noqa: ARG002 - for subclasses
        """Return the random changes to the training images of `data`: `augmentation`, unless a subclass chooses."""
        return self.augmentation

    def optimizer(self, params: Params, steps: int) -> keras.optimizers.Optimizer:
        """Return the optimizer for `steps` batches in total; see `objectives.training.loop.optimizer`."""
        from objectives.training import loop

        return loop.optimizer(params, steps)

    def prepare(self, options: DataOptions, final: bool) -> None:
        """Import Keras and the training loop, and load the data as NumPy arrays, once for all runs.

        Raises:
            DataMissingError: the data set is not on this machine.
            DataDamagedError: the data set is invalid.
        """
        from objectives import backend

        backend.before_import()
        from objectives.training import loop

        # Accessed through the class, so that a plain function does not become a method.
        self._data, self._options = loop.load(type(self).dataset, self.classes, options, final), options

    def describe_data(self) -> str:
        """Return source, number of images and digest."""
        from objectives.data.description import describe

        return "" if self._data is None else describe(type(self).dataset, self._options, self._data)

    def data_warning(self) -> str:
        """Return a line on a part that the loaded data lack; empty if they are complete."""
        if self._data is None or self._data.has_test:
            return ""
        return "there is no test set, which hpo retrain needs: let the data function return a second pair before it"

    def train(self, params: Params, run: Run) -> None:
        """Build and train the model, report each epoch and, in a final run, evaluate on the test set once."""
        from objectives import backend

        if self._data is None:
            self.prepare(DataOptions(), run.final)
        assert self._data is not None
        backend.configure(run.device, run.seed)
        from objectives.training import loop

        loop.train(self, params, self._data, run)
