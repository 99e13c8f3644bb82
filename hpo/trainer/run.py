"""The run of an attempt: its reports go to the agent, its checkpoints to disk."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from optuna.distributions import BaseDistribution, distribution_to_json

from hpo.errors import DiskFullError
from hpo.outcomes import Outcome
from hpo.process.process_groups import end_group, kill_group
from hpo.trainer.checkpointing.checkpoints import CheckpointFolder, CheckpointsError, SavedOutcome
from hpo.trainer.figures import RequestedFigures
from hpo.trainer.messages import (
    Annotate,
    Command,
    Constrain,
    Continue,
    Ending,
    Epoch,
    EpochRecord,
    Finished,
    Held,
    Imported,
    Loaded,
    Measure,
    Start,
    Suggest,
    Suggested,
    Tick,
)
from hpo.trainer.pipe import MOST_EPOCH, TrainerPipe
from hpo.trainer.signs_of_life import progress, signs_of_life
from objectives.base import State
from objectives.checked_run import CheckedRun
from objectives.errors import RunEndedError

TICK_SECONDS = 1.0
"""Shortest time between two reports of progress inside an epoch."""


class TrainerRun(CheckedRun):
    """A `Run` whose reports go to the agent and whose checkpoints go to disk."""

    errors_to: int = 2
    """File descriptor of the log, for what must not pass `sys.stderr`, which user code may have closed."""

    def __init__(self, pipe: TrainerPipe, start: Start) -> None:
        self.seed = start.seed
        self.total_epochs = start.epochs or MOST_EPOCH
        self.restarts = start.restarts
        self.number = start.number
        self.study = start.study
        self.direction = start.direction
        self.device = start.device
        self.metric = start.metric
        self._given = start.params
        self.final = start.final
        self.figures = start.figures
        self.output = Path(start.output) if start.output else None
        self.results: dict[str, Any] = {}
        self.stop_outcome: Outcome | None = None
        self.start = start
        self._pipe = pipe
        # Threads of an objective may report at once.
        self._reporting = threading.RLock()
        self._folder = CheckpointFolder(Path(start.checkpoints))
        self._folder.clear_partial()
        saved = self._folder.saved_outcome()
        # A trial that was complete before `--epochs` was raised goes on.
        ended = (
            saved is not None and self._is_final(saved.outcome) and len(saved.history) not in start.restarts
        )
        self.earlier_outcome = saved if ended else None
        """Outcome of an earlier attempt that its agent has not stored."""
        only_code = start.code if start.restarts_other_code else None
        checkpoint = self._folder.newest(self.log, only_code) if self.earlier_outcome is None else None
        self._codes = sorted({*(checkpoint.codes if checkpoint else ()), start.code})
        self._state: State | None = checkpoint.state if checkpoint else None
        known = checkpoint or self.earlier_outcome
        self._history: list[EpochRecord] = list(known.history) if known else []
        self._completed = self._resumed_from = len(self._history)
        self._epoch_began_at = self._ticked_at = time.monotonic()
        self._received = threading.Condition()
        self._answered = len(self._history)
        self._figures = RequestedFigures(start.figures, start.constraints)
        self._paused = self._loading = self._ending = self._prune_advised = False
        self._suggested: dict[str, Suggested] = {}
        self._next: Start | None = None

    @property
    def state(self) -> State | None:
        return self._state

    @property
    def history(self) -> tuple[EpochRecord, ...]:
        """Epochs trained so far, those of earlier attempts included."""
        return tuple(self._history)

    @property
    def begun(self) -> bool:
        """Whether the agent knows that the attempt runs: until then, its trainer may leave it to another process."""
        return self._pipe.begun

    @property
    def resumes(self) -> bool:
        """Whether the run continues a checkpoint and has not completed an epoch since."""
        return self._state is not None and self._completed == self._resumed_from

    def _begin(self, epoch: int) -> bool:  # noqa: ARG002 - the agent counts them
        self._pipe.begin()
        self._figures.check_accepted()
        self._wait_while_paused()
        self._epoch_began_at = time.monotonic()
        self._notify_ending()
        return self.stop_outcome is None

    def report(self, **metrics: float) -> None:
        self._pipe.check_owned()
        with self._reporting:
            self._figures.check(metrics, begins=not self._history)
            super().report(**metrics)

    def save(self, state: State) -> None:
        self._pipe.check_owned()
        with self._reporting:
            super().save(state)

    def _close(self, metrics: dict[str, float], state: State | None) -> None:
        record = EpochRecord(self._epoch, metrics, time.monotonic() - self._epoch_began_at)
        self._history.append(record)
        if state is not None:
            self._keep(state)
        self._pipe.send(Epoch(record))

    def _keep(self, state: State) -> None:
        self._folder.write(self._history, state, self._codes)

    def tick(self, done: int, total: int, images: int = 0) -> None:
        self._wait_while_paused()
        now = time.monotonic()
        # An agent that has not answered the last epoch is busy: the pipe is left to epochs.
        if now - self._ticked_at >= TICK_SECONDS and self._answered >= self._epoch - 1:
            self._ticked_at = now
            self._pipe.send(Tick(self._epoch, *progress(done, total, images, now - self._epoch_began_at)))

    def send_alive(self) -> None:
        """Report that this process is alive after its last epoch."""
        self._pipe.send(Tick(max(len(self._history), 1), 1.0, 0.0))

    @contextmanager
    def loading(self) -> Iterator[None]:
        """Report that this process is alive while it loads the objective in this block."""
        self._loading = True
        try:
            with signs_of_life(lambda: self._pipe.send(Tick(len(self._history) + 1, 0.0, 0.0)), TICK_SECONDS):
                yield
        finally:
            self._loading = False

    def _sample(self, name: str, distribution: BaseDistribution) -> Any:
        self._pipe.check_owned()
        self._wait_while_paused()
        with self._reporting:
            self._suggested.pop(name, None)
            self._pipe.send(Suggest(name, distribution_to_json(distribution)))
            with self._received:
                self._received.wait_for(lambda: name in self._suggested or self.stop_outcome)
                found = self._suggested.get(name)
        if found is None:
            self.ended_early = True
            self._notify_ending()
            raise RunEndedError
        if found.error:
            raise ValueError(found.error)
        return found.value

    @property
    def prune_advised(self) -> bool:
        return self._prune_advised

    def _keep_attribute(self, name: str, value: Any) -> None:
        self._pipe.send(Annotate(name, value))

    def _keep_constraint(self, name: str, value: float) -> None:
        self._pipe.send(Constrain(name, value))

    def notify_loaded(self, data: str) -> None:
        self._pipe.send(Loaded(data))

    def notify_imported(self, imported: Imported) -> None:
        # Not the trial's own: its agent may be gone.
        with suppress(OSError):
            self._pipe.send(imported)

    def _keep_figures(self, figures: Mapping[str, float]) -> None:
        self._pipe.check_owned()
        if asked := {name: value for name, value in figures.items() if name in self.figures}:
            self._pipe.send(Measure(asked))
        # Those of a trial that is resumed were accepted when it began, and a latency may differ by chance.
        self._figures.keep(figures, begins=self._resumed_from == 0)

    def save_outcome(self, finished: Finished) -> None:
        """Save the outcome for a later attempt, in case the agent dies before the database has it."""
        if self._is_final(finished.outcome):
            # The agent receives it all the same.
            with suppress(CheckpointsError, DiskFullError):
                found = finished.outcome, finished.error, finished.traceback
                self._folder.save_outcome(
                    SavedOutcome(*found, self.history, finished.results, finished.value)
                )

    def _is_final(self, outcome: Outcome) -> bool:
        # A failed trial is retried.
        return outcome is Outcome.COMPLETE or (outcome.counts and self.start.saves_outcome)

    def log(self, message: str) -> None:
        print(message, flush=True)

    def listen(self) -> None:
        """Receive the agent's messages until the next attempt, or until the agent has closed the pipe."""
        while self._next is None:
            try:
                message = self._pipe.receive()
            except (EOFError, OSError):
                self._on_closed()
                return
            with self._received:
                match message:
                    case Continue(epoch):
                        # The pruner judges each report again.
                        self._prune_advised, self._answered = False, epoch
                    case Start():
                        self._next = message
                    case Suggested(name):
                        self._suggested[name] = message
                    case Command.PRUNE if self.start.epochs is None:
                        self._prune_advised, self._answered = True, self._completed
                    case Command.PRUNE:
                        self.stop_outcome = Outcome.PRUNED
                    case Command.PREEMPT:
                        self.stop_outcome = self.stop_outcome or Outcome.PREEMPTED
                        if self._loading:
                            # Nothing was trained, and loading may take minutes.
                            self._pipe.send(Finished(Outcome.PREEMPTED))
                            kill_group(os.getpid())
                    case Command.PAUSE | Command.RESUME:
                        self._paused = message is Command.PAUSE
                self._received.notify_all()

    def _on_closed(self) -> None:
        """End this process at once, with its child processes: the agent is gone."""
        end_group()

    def next_start(self) -> Start:
        """Wait for the attempt after this one, which has ended."""
        with self._received:
            self._received.wait_for(lambda: self._next is not None)
        assert self._next is not None
        return self._next

    def _decide(self) -> None:
        """Wait for the answer to an epoch, but not forever: the agent's database may be unreachable."""
        if self._completed >= self.total_epochs:
            return
        with self._received:
            self._received.wait_for(
                lambda: self._answered >= self._epoch - self.start.ahead or self.stop_outcome,
                timeout=self.start.reply_seconds,
            )
        self._notify_ending()

    def _notify_ending(self) -> None:
        """Notify the agent once that no epoch follows: from now on the process may take only so long to end."""
        if self.stop_outcome is not None and not self._ending:
            self._ending = True
            self._pipe.send(Ending())

    def _wait_while_paused(self) -> None:
        with self._received:
            if not self._paused or self.stop_outcome:
                return
            began_at = time.monotonic()
            self._pipe.send(Held())
            self._received.wait_for(lambda: not self._paused or self.stop_outcome)
            # Time without training is not the epoch's.
            self._epoch_began_at += time.monotonic() - began_at
