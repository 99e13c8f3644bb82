"""The base class of backends, which trains and predicts through Keras' own compiled functions."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from numpy.typing import NDArray

from objectives.device import Device

if TYPE_CHECKING:
    import keras

Arrays = tuple[NDArray[Any], ...]
Steps = Callable[[Arrays], Mapping[str, float]]
"""Function that trains on k batches, arrays of k each, in order; returns the model's metrics since its last
`reset_metrics()`, whose reading may wait until the batches are trained."""
Batch = Callable[..., tuple[Any, Any]]
"""Function that makes inputs and targets of one batch on the device, given the batch's entry of each array."""


class Backend(ABC):
    """One of Keras' backends; no method imports it before it is called."""

    package: ClassVar[str]
    """Name of the package to install, whose version can change results; also the name of its module."""
    installation: ClassVar[str]
    """Command that installs it."""
    gpu_installation: ClassVar[str]
    """Command that installs it for NVIDIA GPUs."""
    variables: ClassVar[Mapping[str, str]] = {}
    """Environment variables that the backend reads while it is imported, unless the user has set them."""
    bfloat16_on_cpu: ClassVar[bool] = False
    """Whether bfloat16 was measured to be faster than float32 on processors that have instructions for it."""

    def __init__(self) -> None:
        self._given: dict[str, str] = {}
        """Environment variables that this object has set."""

    def share_gpu(self, fraction: float | None, *, grows: bool = False) -> None:  # noqa: B027 - optional hook
        """Keep this process from taking all of the GPU's memory, in objectives that do not call `configure` too.

        `fraction` is its share where several slots use the GPU; with `grows`, a backend takes no more of it than it
        needs. The user's own settings stay.
        """

    def before_import(self) -> None:
        """Set the variables that the backend reads while it is imported."""
        for variable in self.variables.keys() - self._given.keys():
            self._set(variable, self.variables[variable])

    def _set(self, variable: str, value: str) -> None:
        """Set an environment variable unless the user has."""
        if os.environ.get(variable) == self._given.get(variable):
            os.environ[variable] = self._given[variable] = value

    @abstractmethod
    def configure(self, device: Device) -> None:
        """Set threads, determinism and memory limits of this process."""

    def seed(self, seed: int, *, again: bool = False) -> None:  # noqa: ARG002 - for backends that keep functions
        """Seed all random numbers; `again` in a process whose compiled functions serve a further run."""
        import keras

        from objectives.backend import lazy_tensorflow

        keras.utils.set_random_seed(seed)
        lazy_tensorflow.seed_at_import(seed)

    def keras_settings(self) -> tuple[object, ...]:
        """Return the settings of Keras that apply to all models of a process."""
        from keras import config

        return config.floatx(), config.epsilon(), config.image_data_format(), config.dtype_policy().name

    @property
    def keeps_functions(self) -> bool:
        """Whether a compiled function may serve several runs of a process, with the results of a process for each."""
        return False

    @property
    def drew_elsewhere(self) -> bool:
        """Whether random numbers were drawn from a state that `seed(…, again=True)` does not set."""
        return False

    def begin_epoch(self, seed: int) -> None:  # noqa: B027 - optional hook
        """Seed random numbers of layers whose generator is not among the model's variables, and so in no checkpoint."""

    def gpu_bytes(self) -> int | None:
        """Return the memory of the GPU that this process may still take; None if the backend does not tell."""
        return None

    @abstractmethod
    def gpu_names(self) -> list[str]:
        """Return the names of the GPUs that the backend finds, which initializes them."""

    @abstractmethod
    def compute_capability(self) -> float:
        """Return the CUDA compute capability of the first visible GPU, e.g. 8.0; 0 without a CUDA GPU."""

    def training_steps(
        self,
        model: keras.Model,
        targets: NDArray[Any],  # noqa: ARG002 - for backends that trace
        batch: Batch | None = None,
        resident: Sequence[Any] = (),
    ) -> Steps:
        """Return a function that trains a compiled model for several steps, in one call where the backend can.

        It takes inputs and targets, each (k, batch, …), or the arrays from which `batch` makes both; `batch` gets the
        arrays of `resident`, which lie on the device, as its first arguments. `targets` has the type of a batch's
        targets and their shape after the first axis.
        """

        import keras

        def steps(arrays: Arrays) -> dict[str, float]:
            # `train_on_batch` resets no metrics: its last result covers all batches so far.
            logs: dict[str, Any] = {}
            for parts in zip(*arrays, strict=True):
                if batch is None:
                    inputs, labels = parts
                else:
                    inputs, labels = batch(*resident, *map(keras.ops.convert_to_tensor, parts))
                logs = model.train_on_batch(inputs, labels, return_dict=True)
            return {key: float(value) for key, value in logs.items()}

        return steps

    @property
    def ahead(self) -> int:
        """Number of further calls of training steps that may be begun before the metrics of one are read."""
        return 0

    def collect(self, model: keras.Model) -> None:  # noqa: B027 - optional hook
        """Give the model the state that its training steps have reached; called before anything else reads it."""

    def training_forward(self, model: keras.Model) -> Callable[[Any], None]:
        """Return the model as in training, compiled, which changes its states alone, such as moving statistics."""

        def call(inputs: Any) -> None:
            model(keras.tree.map_structure(keras.ops.convert_to_tensor, inputs), training=True)

        import keras

        return call

    def forward(self, model: keras.Model) -> Callable[[Any], NDArray[Any]]:
        """Return the model's inference as a compiled function of a batch: an array, or a dict of arrays by name."""
        return model.predict_on_batch  # type: ignore[no-any-return,unused-ignore]
