"""The `fit` calls of a run, which share its epochs: mostly one, or a few phases of fine-tuning."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from hpo.errors import ObjectiveBrokenError
from objectives import saved_model
from objectives.fitting import data, reporter
from objectives.fitting.reporter import Reporter
from objectives.training import model_figures

if TYPE_CHECKING:
    from objectives.base import Run


class Fits:
    """Runs Keras' `fit` and `evaluate` for a run."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.histories: list[dict[str, Any]] = []
        """Histories of the calls that have ended."""
        self._entered = 0
        self._epochs = run.epochs()
        self._open = False
        self._trained: set[int] = set()
        """Identities of the variables of the models so far."""
        self._models: list[keras.Model] = []

    @property
    def state(self) -> Mapping[str, Any] | None:
        """State of the last checkpoint; None in a new run.

        Raises:
            ObjectiveBrokenError: the objective has saved it itself.
        """
        state = self.run.state
        if state is not None and not {"fit", "histories", "callbacks"} <= state.keys():
            raise ObjectiveBrokenError(
                "the checkpoint is not one of run.fit(): do not call run.save() in the same objective, or train from"
                " epoch 1"
            )
        return state

    def fit(
        self, model: keras.Model, x: Any, y: Any, further: Sequence[Any], options: dict[str, Any]
    ) -> keras.callbacks.History:
        """Train as `model.fit` does; returns its history, with the epochs before an interruption."""
        options = _named(keras.Model.fit, further, options)
        callbacks = self.callbacks(options.pop("callbacks", None))
        callbacks[-1].batch_size = data.batch_size(x, options)
        data.build(model, x)
        if self._entered == 0:
            model_figures.measure(self.run, model)
        state = self.state
        completed = int(state["epoch"]) if state is not None and state["fit"] == self._entered else 0
        self._seed_graphs()
        x, exact = data.ordered(x, completed, lambda epoch: self.seed(epoch, self._entered), options, model)
        if not exact:
            self.run.log(
                "the order of the data is not that of an uninterrupted run from here on: use arrays or tf.data of known"
                " length, without steps_per_epoch, for the same one"
            )
        options = {"epochs": self.run.total_epochs, "verbose": 0, **options}
        return model.fit(x, y, callbacks=callbacks, **options)

    def callbacks(self, callbacks: Any = None) -> list[Any]:
        """Return callbacks for `model.fit`: the given ones, whose state is kept, and last the one that reports.

        Raises:
            ObjectiveBrokenError: BackupAndRestore is among them, which resumes from a state of its own.
        """
        if isinstance(callbacks, keras.callbacks.CallbackList):
            callbacks = callbacks.callbacks
        given = keras.tree.flatten(callbacks) if callbacks else []
        if any(isinstance(callback, keras.callbacks.BackupAndRestore) for callback in given):
            raise ObjectiveBrokenError(
                "BackupAndRestore resumes from a state of its own: remove it, since a run resumes by itself"
            )
        if not any(isinstance(callback, keras.callbacks.History) for callback in given):
            given.append(keras.callbacks.History())
        self._seed_graphs()
        return [*given, Reporter(self, given)]

    def evaluate(
        self, model: keras.Model, x: Any, y: Any, further: Sequence[Any], options: dict[str, Any]
    ) -> dict[str, Any]:
        """Record loss and metrics on the test set in a final run, and save the model; in a trial, do nothing."""
        if not self.run.final or self.run.ended_early:
            return {}
        options = _named(keras.Model.evaluate, further, options)
        found = model.evaluate(x, y, **{"verbose": 0, **options, "return_dict": True})
        results = {f"test_{name}": value for name, value in found.items()}
        self.run.record(**results, parameters=int(model.count_params()))
        saved_model.save(model, self.run)
        return results

    def enter(self, model: keras.Model) -> int:
        """Begin a call; return its number."""
        self._entered += 1
        self._models.append(model)
        return self._entered - 1

    def covers(self, model: keras.Model) -> bool:
        """Return whether a model has the variables of all models trained before, so that its state is the run's."""
        own = {id(variable) for variable in model.variables}
        return all(id(variable) in own for earlier in self._models for variable in earlier.variables)

    def check_trained(self, model: keras.Model) -> None:
        """Check that a model for which a complete run has no epoch left has been trained by earlier calls.

        Raises:
            ObjectiveBrokenError: it would stay as it was made.
        """
        trained = {id(variable) for earlier in self._models[:-1] for variable in earlier.variables}
        if self.run.ended_early or all(id(variable) in trained for variable in model.trainable_variables):
            return
        raise ObjectiveBrokenError(
            f"this run.fit() has no epoch left, because earlier calls have trained all {self.run.total_epochs}: give"
            " each call its epochs=…, and the objective their sum, as epochs in its class or by --epochs"
        )

    def open(self) -> bool:
        """Open the next epoch unless one is open; return False when the run has ended."""
        self._open = self._open or next(self._epochs, None) is not None
        return self._open

    def close(self, metrics: dict[str, float]) -> None:
        """Report the open epoch."""
        self._open = False
        self.run.report(**metrics)

    def seed(self, epoch: int, index: int) -> None:
        """Seed the random numbers of an epoch, counted from 1, of a call; 0: before its first epoch."""
        sequence = np.random.SeedSequence([self.run.seed % 2**32, index, epoch])
        reporter.seed(int(sequence.generate_state(1)[0]))

    def _seed_graphs(self) -> None:
        # Not `keras.utils.set_random_seed`: it drops the generator that a compiled step of the model may use.
        if "tensorflow" in sys.modules:
            sys.modules["tensorflow"].random.set_seed(self.run.seed % 2**32)
        self.seed(0, self._entered)


def _named(method: Callable[..., Any], further: Sequence[Any], options: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of a method of Keras models by name; `further` are those given after `x` and `y`.

    Raises:
        TypeError: they are too many, or one is among the options too.
    """
    names = [*inspect.signature(method).parameters][3 : 3 + len(further)]
    twice = [name for name in names if name in options]
    if twice or len(names) < len(further):
        wrong = f"multiple values for argument {twice[0]!r}" if twice else "too many positional arguments"
        raise TypeError(f"{method.__name__}() got {wrong}")
    return dict(zip(names, further, strict=True)) | options
