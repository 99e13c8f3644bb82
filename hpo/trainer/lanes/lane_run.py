"""The run of an attempt in a lane: it ends alone when its agent closes its pipe, and its process goes on."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Any

from hpo.outcomes import Outcome
from hpo.trainer.messages import Finished, FromTrainer, Start
from hpo.trainer.pipe import TrainerPipe
from hpo.trainer.run import TrainerRun
from objectives.base import State
from objectives.errors import LaneEndedError


class LanePipe(TrainerPipe):
    """The pipe of an attempt, which ends when its agent has closed it."""

    def send(self, message: FromTrainer) -> None:
        """Send a message as a whole; raise LaneEndedError if the agent has closed the pipe."""
        try:
            super().send(message)
        except OSError as exc:
            raise LaneEndedError from exc


class LaneRun(TrainerRun):
    """A `TrainerRun` of one of several attempts of a process."""

    def __init__(self, pipe: TrainerPipe, start: Start, errors_to: int, ended: Future[None]) -> None:
        """`errors_to` is the descriptor of the attempt's log.

        `ended` is given a result when the agent has closed the pipe: the attempt is to end, and leaves nothing behind.
        """
        self._ended = ended
        super().__init__(pipe, start)
        self.errors_to = errors_to

    def _check_open(self) -> None:
        if self._ended.done():
            raise LaneEndedError

    def tick(self, done: int, total: int, images: int = 0) -> None:
        self._check_open()
        super().tick(done, total, images)

    def report(self, **metrics: float) -> None:
        self._check_open()
        super().report(**metrics)

    def save(self, state: State) -> None:
        self._check_open()
        super().save(state)

    def _keep(self, state: State) -> None:
        # Another attempt of the trial may have begun, or its checkpoints may have been deleted.
        self._check_open()
        super()._keep(state)

    def _begin(self, epoch: int) -> bool:
        self._check_open()
        return super()._begin(epoch)

    def _keep_attribute(self, name: str, value: Any) -> None:
        self._check_open()
        super()._keep_attribute(name, value)

    def save_outcome(self, finished: Finished) -> None:
        if not self._ended.done():
            super().save_outcome(finished)

    def _on_closed(self) -> None:
        with self._received:
            self._ended.set_result(None)
            self.stop_outcome = self.stop_outcome or Outcome.PREEMPTED
            self._received.notify_all()
