"""The callback through which `model.fit` reports to a run, and by which it is pruned and resumed."""

from __future__ import annotations

import random
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from objectives import values
from objectives.fitting import callback_state
from objectives.training import checkpoint

if TYPE_CHECKING:
    from objectives.fitting.fits import Fits

Shapes = dict[str, tuple[int, ...]]


class Reporter(keras.callbacks.Callback):  # type: ignore[misc, unused-ignore]
    """The last callback of a `fit`: after each epoch it saves the state, reports, and stops a run that has to end."""

    def __init__(self, fits: Fits, others: Sequence[keras.callbacks.Callback]) -> None:
        super().__init__()
        self._fits = fits
        self._run = fits.run
        self._others = others
        """The callbacks whose state is kept."""
        self.batch_size = 0
        """Number of examples in a batch; 0: unknown."""
        self._index = 0
        self._shapes: Shapes = {}
        self._noted: set[str] = set()

    def on_train_begin(self, logs: Any = None) -> None:  # noqa: ARG002 - Keras' signature
        """Restore the last checkpoint of this `fit`; leave out the epochs that it has.

        Raises:
            ObjectiveBrokenError: earlier calls have trained all epochs of the run, and this model none.
        """
        self._index = self._fits.enter(self.model)
        self._shapes = checkpoint.shapes(self.model)
        self._snapshot = callback_state.Snapshot(self._others)
        state = self._fits.state
        first: int | None = 0
        if state is not None and state["fit"] > self._index:
            past = state["histories"][self._index]
            vars(self._history).update(epoch=list(past["epoch"]), history=dict(past["history"]))
            first = None
        elif state is not None and state["fit"] == self._index:
            checkpoint.restore(self.model, state)
            lost = callback_state.restore(self._others, state)
            if lost:
                self._run.log(f"not kept by checkpoints, so as in a new run: {', '.join(lost)}")
            first = None if state["stopped"] else int(state["epoch"])
        if first is not None and first < self.params["epochs"] and not self._fits.open():
            self._fits.check_trained(self.model)
            first = None
        # As Keras' own BackupAndRestore does.
        self.model._initial_epoch = sys.maxsize if first is None else first

    @property
    def _history(self) -> keras.callbacks.History:
        return next(other for other in self._others if isinstance(other, keras.callbacks.History))

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:  # noqa: ARG002 - Keras' signature
        """Seed the random numbers of the epoch."""
        self._fits.seed(epoch + 1, self._index)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:  # noqa: ARG002 - Keras' signature
        """Report progress inside the epoch."""
        done = batch + 1
        self._run.tick(done, self.params.get("steps") or done, done * self.batch_size)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Save the state, report, and open the next epoch if there is one.

        Raises:
            MetricMissingError: the objective's metric is not among the logs.
            DivergedError: the metric or a loss is not finite.
        """
        stopped = bool(self.model.stop_training)
        if self._resumable():
            self._run.save(
                {
                    "fit": self._index,
                    "stopped": stopped,
                    "histories": list(self._fits.histories),
                    **checkpoint.capture(self.model, epoch + 1),
                    **self._snapshot.changed(),
                }
            )
        metrics = self._numbers(logs or {})
        shown = " ".join(f"{name}={value:.4g}" for name, value in metrics.items())
        self._run.log(f"epoch {epoch + 1}/{self.params['epochs']}: {shown}")
        self._fits.close(metrics)
        if not stopped and epoch + 1 < self.params["epochs"] and not self._fits.open():
            self.model.stop_training = True
            if not self._run.ended_early:
                self._note(
                    f"fit ends after {epoch + 1} of its {self.params['epochs']} epochs, because all calls together"
                    f" train at most {self._run.total_epochs}"
                )

    def on_train_end(self, logs: Any = None) -> None:  # noqa: ARG002 - Keras' signature
        """Leave the model as it was for a further `fit`."""
        self.model._initial_epoch = None
        self._fits.histories.append(callback_state.history(self._history))

    def _resumable(self) -> bool:
        """Return whether a new process could load the state into this `fit` before its first batch."""
        if not self._fits.covers(self.model):
            reason = "another model of this run was trained before: a resumed run trains this one from its first epoch"
        elif not self._shapes or checkpoint.shapes(self.model) != self._shapes:
            reason = (
                "the model or an optimizer gets its variables only while it trains, so a lost trial begins again: build"
                " them before fit to resume (keras.Input, model.build, optimizer.build)"
            )
        else:
            return True
        self._note(reason)
        return False

    def _numbers(self, logs: dict[str, Any]) -> dict[str, float]:
        """Return the logs that are single numbers."""
        found = {}
        for name, value in logs.items():
            try:
                found[name] = values.number(f"the metric {name!a}", value)
            except values.ValueRefusedError as exc:
                self._note(f"not reported: {exc}")
        return found

    def _note(self, message: str) -> None:
        if message not in self._noted:
            self._noted.add(message)
            self._run.log(message)


def seed(number: int) -> None:
    """Seed the generators from which an epoch draws; TensorFlow's graphs keep the seeds that they were made with."""
    random.seed(number)
    np.random.seed(number)
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(number)
