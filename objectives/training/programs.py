"""The traced programs of a process: a run whose program has been traced by an earlier one trains with it at once.

Building a model takes a tenth of the processor time of tracing and compiling its step. A program is used again only if
all that is traced into it is the same (`objectives.training.identity`). All that is not is set before each run:
weights, statistics and random states to those of the newly built model, the optimizer's variables to those after its
build, and dropout rates, weight decay and schedule to those of the configuration.
"""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakSet

import keras
import numpy as np
from numpy.typing import NDArray

from objectives.backend.base import Steps
from objectives.errors import FreshProcessError
from objectives.training import identity, layers
from objectives.training.evaluation import Forward
from objectives.training.layers import FastDropout

MOST_PROGRAMS = 8
"""Number of programs that are kept, those used last: a space has few optimizers times batch sizes."""


@dataclass(kw_only=True)
class Program:
    """A compiled model with its training step and its inference, both traced at their first use."""

    model: keras.Model
    steps: Steps | None
    """Training steps on batches of the host; None on a GPU, which makes its batches itself."""
    forward: Forward
    _initial: list[NDArray[Any]] = field(default_factory=list)
    """Values of the optimizer's variables after its build."""

    def __post_init__(self) -> None:
        self._initial = [np.array(one) for one in self.model.optimizer.variables]

    def begin(self, stock: keras.Model, optimizer: keras.optimizers.Optimizer) -> None:
        """Take the state of a newly built model and the numbers of an optimizer, of the same identity."""
        layers.copy_variables(stock, self.model)
        for mine, new in zip(_dropouts(self.model), identity.rates(stock), strict=True):
            mine.set_rate(new.rate)
        for variable, value in zip(self.model.optimizer.variables, self._initial, strict=True):
            variable.assign(value)
        self.model.optimizer.take_inputs(optimizer)
        self.model.reset_metrics()


def _numbers_of_names() -> dict[str, int]:
    """Return Keras' own counts of the names that it has given; a copy if a version keeps them elsewhere.

    Keras has no public function that resets them and nothing else. Where they go on, no two models have the same names,
    and each is traced again.
    """
    with suppress(ImportError, AttributeError):
        from keras.src.backend.common import global_state

        found: dict[str, int] = global_state.get_global_attribute(
            "object_name_uids", defaultdict(int), set_to_default=True
        )
        return found
    return {}


@contextmanager
def unnumbered_names() -> Iterator[None]:
    """Let Keras name layers in this block as in a thread that has named none, and go on as before afterwards."""
    numbers = _numbers_of_names()
    before = dict(numbers)
    numbers.clear()
    try:
        yield
    finally:
        numbers.clear()
        numbers.update(before)


def _dropouts(model: keras.Model) -> list[FastDropout]:
    return [layer for layer in model.layers if isinstance(layer, FastDropout) and layers.reads_rate(layer)]


class Programs:
    """The programs that one process keeps for its later runs."""

    def __init__(
        self,
        most: int = MOST_PROGRAMS,
        names: Mapping[str, int] | None = None,
        built: WeakSet[keras.layers.Layer] | None = None,
    ) -> None:
        """`most` is the number of programs to keep; 0 in a process of one run.

        `names` are Keras' counts of names with which each run begins; None: those of this thread now. `built` are the
        layers of models that others have built in this process, to which those of runs are added.
        """
        self.keeps = most > 0
        self._most = most
        self.reusable = True
        """Whether the program of the last run may be used again."""
        self._kept: OrderedDict[str, Program] = OrderedDict()
        self._runs = 0
        self._layers: WeakSet[keras.layers.Layer] = WeakSet() if built is None else built
        """Layers of the models that have been built in this process."""
        self._names = dict(_numbers_of_names() if names is None else names)

    def begin(self) -> None:
        """Let Keras name the layers of the next model as in a process that has built none before it."""
        if not self.keeps:
            return
        numbers = _numbers_of_names()
        numbers.clear()
        numbers.update(self._names)

    def admit(self, key: str | None, stock: keras.Model) -> None:
        """Note that a run begins with a newly built model, whose program has this identity, if it has one.

        Raises:
            FreshProcessError: the model is not new, or has no identity in a process that has trained others.
        """
        # Code of yours may cache models or layers: their weights follow from the seed of the first run.
        built = list(stock._flatten_layers(include_self=False))
        is_new = self._layers.isdisjoint(built)
        if not is_new or (self._runs and key is None):
            raise FreshProcessError
        self._runs += 1
        self._layers.update(built)
        self.reusable = key is not None

    def program(
        self,
        key: str | None,
        stock: keras.Model,
        optimizer: keras.optimizers.Optimizer,
        make: Callable[[], Program],
    ) -> Program:
        """Return the program of an identity, kept from an earlier run or new."""
        if key is None:
            return make()
        if key in self._kept:
            self._kept.move_to_end(key)
            self._kept[key].begin(stock, optimizer)
        else:
            self._kept[key] = make()
            while len(self._kept) > self._most:
                self._kept.popitem(last=False)
        return self._kept[key]

    def forget(self, program: Program) -> None:
        """Keep a program no longer, because its model is compiled with another optimizer."""
        self._kept = OrderedDict((key, one) for key, one in self._kept.items() if one is not program)
