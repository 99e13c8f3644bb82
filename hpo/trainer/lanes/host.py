"""The process of a lane host: it trains several attempts at once, each in a thread with a pipe and a log of its own.

It is forked from the template as trainers are. An attempt ends alone: when it has its outcome, or when its agent
closes its pipe. The process ends with its agent, or is killed by it.
"""

from __future__ import annotations

import copy
import functools
import os
import queue
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import AbstractContextManager, ExitStack, nullcontext, suppress
from multiprocessing import reduction
from multiprocessing.connection import Connection
from typing import NoReturn

from hpo.devices.threads import release_threads
from hpo.outcomes import Outcome
from hpo.process.process_groups import end_group
from hpo.trainer.checkpointing.checkpoints import CheckpointsError
from hpo.trainer.ends.outcome import outcome_of
from hpo.trainer.lanes.lane_run import LanePipe, LaneRun
from hpo.trainer.lanes.messages import Ask, Begin, Freed, FromHost, Placed, Refused, Shape, Train, encode
from hpo.trainer.lanes.output import LaneOutput
from hpo.trainer.lanes.places import NotInLanesError, Places, Threads
from hpo.trainer.memory import private_bytes
from hpo.trainer.messages import Finished, Start, Started
from hpo.trainer.output import no_log
from hpo.trainer.pipe import TrainerPipe
from hpo.trainer.template.loading import ObjectiveLoader
from objectives.base import Objective
from objectives.errors import LaneEndedError
from objectives.keras_objective import KerasObjective

MOST_GROWTH_BYTES = 2**30
MOST_GROWTH_BYTES_PER_LANE = 2**28
"""Growth of the private memory with which a host retires, since as many attempts have ended as it has lanes.

The larger of both counts. Lanes of as many shapes have as many programs in use, and none of them is lost memory.
"""

ATTEMPTS_PER_LANE = 100
"""Number of attempts for each lane after which a host retires, whatever its memory is."""


def host(connection: Connection, loaded: ObjectiveLoader) -> NoReturn:
    """Train the attempts that the agent sends until it is gone."""
    begin: Begin = connection.recv()
    descriptor = reduction.recv_handle(connection)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if begin.device.cores and hasattr(os, "sched_setaffinity"):
        with suppress(OSError):
            os.sched_setaffinity(0, begin.device.cores)
    release_threads(begin.device.threads)
    output = LaneOutput()
    output.install(descriptor)
    os.close(descriptor)

    def prepare() -> tuple[Objective, Places]:
        # Imports Keras, which not every objective does.
        objective = loaded.prepare_in_trainer(begin.device)
        if not isinstance(objective, KerasObjective):
            return objective, Threads()
        from hpo.trainer.lanes.programs import Programs

        return objective, Programs(begin.device)

    lanes = LaneHost(connection, prepare, begin.device.lanes, output)
    lanes.serve()
    # The agent is gone: with all child processes.
    end_group()


class LaneHost:
    """The lanes of this process."""

    def __init__(
        self,
        control: Connection,
        prepare: Callable[[], tuple[Objective, Places]],
        lanes: int,
        output: LaneOutput,
    ) -> None:
        """`prepare` loads the objective, and returns the lanes that train it."""
        self._control = control
        self._prepare = prepare
        self._lanes = lanes
        self._output = output
        self._sending = threading.Lock()
        self._threads: dict[int, threading.Thread] = {}
        self._questions: queue.SimpleQueue[Ask] = queue.SimpleQueue()
        self._counting = threading.Lock()
        self._attempts = 0
        self._memory = 0
        self._prepared = threading.Event()
        self._objective: Objective | None = None
        self._places: Places = Threads()
        self._problem: BaseException | None = None

    def serve(self) -> None:
        """Load the objective and train what the agent sends, until it is gone."""
        # At once: the pipe holds no more than some hundred attempts.
        listener = threading.Thread(target=self._follow, name="agent", daemon=True)
        listener.start()
        try:
            self._objective, self._places = self._prepare()
        # Each attempt reports it as its own failure.
        except BaseException as exc:  # noqa: BLE001 - user code may raise anything
            self._problem = exc
        self._prepared.set()
        threading.Thread(target=self._answer, name="questions", daemon=True).start()
        listener.join()

    def _follow(self) -> None:
        with suppress(EOFError, OSError):
            self._receive()

    def _receive(self) -> NoReturn:
        while True:
            message: Train | Ask = self._control.recv()
            match message:
                case Train(lane):
                    connection = Connection(reduction.recv_handle(self._control))
                    before = self._threads.get(lane)
                    thread = threading.Thread(
                        target=self._train,
                        args=(message, connection, before),
                        name=f"lane {lane}",
                        daemon=True,
                    )
                    self._threads[lane] = thread
                    thread.start()
                case Ask():
                    self._questions.put(message)

    def _send(self, message: FromHost) -> None:
        # An agent that is gone is noticed by the thread that listens to it.
        with self._sending, suppress(OSError):
            self._control.send_bytes(encode(message))

    def _answer(self) -> NoReturn:
        """Answer questions in a thread of their own: code of the objective that hangs delays nothing else."""
        while True:
            question = self._questions.get()
            self._send(Shape(question.number, self._shape(question)))

    def _shape(self, question: Ask) -> str:
        # Code of the objective may raise anything, SystemExit too; its attempt reports it.
        with suppress(BaseException), self._output.silent():
            if self._objective is not None:
                return self._places.shape(self._objective, question.params, question.epochs)
        return ""

    def _train(self, train: Train, connection: Connection, before: threading.Thread | None) -> None:
        """Train an attempt in its lane, once the one before has left it."""
        if before is not None:
            before.join()
        self._prepared.wait()
        left = threading.Event()
        refusal = ""
        try:
            with self._places.announced(train.lane):
                self._attempt(train, connection, left)
        except NotInLanesError as exc:
            refusal = str(exc) or "it cannot be trained next to others"
        except (LaneEndedError, EOFError, OSError):
            # The agent has closed the pipe.
            pass
        # No attempt may keep its lane for ever.
        except BaseException:  # noqa: BLE001
            traceback.print_exc()
        finally:
            left.set()
        self._send(Refused(train.number, refusal) if refusal else Freed(train.number, self._retires()))

    def _attempt(self, train: Train, connection: Connection, left: threading.Event) -> None:
        """Train the attempt that the agent sends on this pipe, and report its outcome.

        Raises:
            NotInLanesError: another process has to train it; nothing was reported.
            LaneEndedError, EOFError, OSError: the agent has closed the pipe.
        """
        start: Start = connection.recv()
        pipe = LanePipe(connection)
        ended: Future[None] = Future()
        with ExitStack() as stack:
            try:
                log = stack.enter_context(self._output.to(start.log))
            except OSError as exc:
                finished = no_log(start.log, exc)
            else:
                place = self._place(train, start, ended)
                run = functools.partial(LaneRun, pipe, start, log, ended)
                finished = self._outcome(start, place, connection, pipe, run, left)
        pipe.send(finished)

    def _place(self, train: Train, start: Start, ended: Future[None]) -> AbstractContextManager[object]:
        if self._objective is None:
            return nullcontext()
        try:
            with self._output.silent():
                shape = self._places.shape(self._objective, start.params, start.epochs)
        except NotInLanesError:
            raise
        # Training it fails in the same way, and reports it.
        except BaseException:  # noqa: BLE001 - user code may raise anything
            return nullcontext()
        self._send(Placed(train.number, shape))
        return self._places.lane(shape, train.lane, ended)

    def _outcome(
        self,
        start: Start,
        place: AbstractContextManager[object],
        connection: Connection,
        pipe: TrainerPipe,
        make_run: Callable[[], LaneRun],
        left: threading.Event,
    ) -> Finished:
        """Train from the last checkpoint, if there is one, until the trial or the attempt ends."""
        try:
            run = make_run()
            pipe.send(Started(os.getpid(), len(run.history), run.history))
            threading.Thread(
                target=_listen, args=(run, connection, left), name="listener", daemon=True
            ).start()
            if (saved := run.earlier_outcome) is not None:
                return Finished(saved.outcome, saved.error, saved.traceback, saved.results, saved.value)
            finished = outcome_of(self._own_objective, start.params, run, _cannot_leave, place)
            run.save_outcome(finished)
        except CheckpointsError as exc:
            return Finished(Outcome.DISK_FULL, str(exc))
        except MemoryError as exc:
            return Finished(Outcome.OUT_OF_MEMORY, f"there is no memory for the checkpoint: {exc}")
        return finished

    def _own_objective(self) -> Objective:
        """Return the objective for one attempt, whose attributes the others do not see."""
        if self._objective is None:
            assert self._problem is not None
            raise self._problem
        return copy.copy(self._objective)

    def _retires(self) -> bool:
        """Count an attempt that has ended; return whether the process is to be replaced.

        Its other attempts then end after their epochs, and resume in the next one.
        """
        with self._counting:
            self._attempts += 1
            if self._attempts <= self._lanes:
                self._memory = _memory()
            limit = self._memory + max(MOST_GROWTH_BYTES, self._lanes * MOST_GROWTH_BYTES_PER_LANE)
            if _memory() > limit:
                # What is kept for trials to come may be all of it.
                self._places.drop_idle()
            worn = _memory() > limit or self._attempts >= ATTEMPTS_PER_LANE * self._lanes
            return worn or self._places.broken


def _memory() -> int:
    return private_bytes() if sys.platform.startswith("linux") else 0


def _listen(run: LaneRun, connection: Connection, left: threading.Event) -> None:
    run.listen()
    # Not before: another file could get its descriptor while the attempt still writes to it.
    left.wait()
    connection.close()


def _cannot_leave() -> NoReturn:
    raise AssertionError("an attempt in a lane has begun")
