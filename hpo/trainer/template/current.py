"""The template of a pool: started, and replaced when it dies or has to load less."""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path

from hpo.errors import ObjectiveBrokenError
from hpo.files.bounded_log import BoundedLog
from hpo.process.listening_clock import ListeningClock
from hpo.trainer.messages import FromTrainer, Imported, Loaded
from hpo.trainer.pipe import UnreadableMessageError
from hpo.trainer.template.learnt import LearntImports
from hpo.trainer.template.messages import (
    Described,
    Exited,
    Fork,
    Forked,
    Import,
    ImportEnded,
    Load,
    LoadFailed,
    Loading,
    NotForked,
    Preload,
    Ready,
    Unforkable,
)
from hpo.trainer.template.pipe import error_class
from hpo.trainer.template.process import STATUS_SECONDS, TemplateProcess
from objectives.description import Description

log = logging.getLogger(__name__)

MAX_TEMPLATE_DEATHS = 3
"""Number of templates in a row that may die while they load or fork, before a trainer has started."""

LEAST_LOADING_SECONDS = 300.0
"""Shortest limit for loading: importing a framework and reading data may take minutes on a busy machine."""

MOST_UNANSWERED = 16
"""Number of requests to a template that may wait for its answer, so few that a pipe holds them.

So a request never blocks, whatever the template does: the two could wait for each other if both pipes were full.
"""

OfTrainer = Forked | NotForked | Exited
"""Messages of a template that are of its trainers, not of itself."""

StartTemplate = Callable[[Load, Path, int], TemplateProcess]


class CurrentTemplate:
    """The running template, the objective that it has loaded, and its log."""

    def __init__(self, load: Load, log: Path, start_template: StartTemplate) -> None:
        self.ready = False
        """Whether it has loaded everything, so that trainers start at once."""
        self.stage = ""
        """Part of loading that is in progress; empty if it is not known."""
        self.versions: dict[str, str] = {}
        self.description: Description | None = None
        self._load = load
        self._learnt = LearntImports(load.objective)
        self._log = log
        self._bounded_log = BoundedLog(log)
        self._keeps_log = False
        self._new_process = start_template
        self._process: TemplateProcess | None = None
        self._clock = ListeningClock()
        self._loading_since = self._clock.now()
        self._deaths = 0
        self._data: str | None = None
        self._warned = False
        # Only this process holds the write end: see `end_with_agent`.
        self._guard_pipe: tuple[int, ...] = os.pipe()

    @property
    def connection(self) -> Connection | None:
        """The pipe to it; None while it is not started."""
        return self._process.connection if self._process is not None else None

    @property
    def importing(self) -> bool:
        """Whether it imports modules that trials import, and answers no request meanwhile."""
        return self._learnt.pending

    def start(self) -> None:
        self._process = self._new_process(self._load, self._log, self._guard_pipe[0])
        self.ready, self.stage, self._loading_since = False, "", self._clock.now()

    def kill(self) -> None:
        """Kill it; its closed pipe is noticed later."""
        if self._process is not None:
            self._process.kill()

    def close(self) -> None:
        if self._process is not None:
            self._process.close()
            self._process = None
        for descriptor in self._guard_pipe:
            os.close(descriptor)
        self._guard_pipe = ()
        self.truncate_log()
        if not self._keeps_log:
            # The log of a template that did not fail is of no use.
            self._log.unlink(missing_ok=True)

    def truncate_log(self) -> None:
        self._bounded_log.truncate()

    def check_loading(self, hung_seconds: float) -> None:
        """Check that it has not been loading for more than `hung_seconds`, at least five minutes.

        Raises:
            ObjectiveBrokenError: it has been loading for longer.
        """
        limit = max(hung_seconds, LEAST_LOADING_SECONDS)
        if self._clock.now() - self._loading_since > limit and not self.ready:
            self._keeps_log = True
            raise ObjectiveBrokenError(
                f"{self._load.objective} and its data were not loaded within {limit:.0f} s: see {self._log},"
                " or allow more with --hung-after"
            )

    def note(self, message: FromTrainer) -> bool:
        """Note a message of a trainer that is for its template; return whether it was one."""
        match message:
            case Loaded(data):
                self.compare_data(data)
            case Imported():
                self.learn(message)
            case _:
                return False
        return True

    def compare_data(self, data: str) -> None:
        """Compare the data that a trainer has loaded with those of the first one; log once that they differ."""
        if self._data is None:
            self._data = data
        elif data != self._data and not self._warned:
            self._warned = True
            log.warning(
                f"the trials of {self._load.objective} load different data, so they are not comparable: prepare() or"
                " the data function draws random numbers from a generator without a seed, such as"
                " np.random.default_rng(); give it a fixed seed"
            )

    def learn(self, found: Imported) -> None:
        """Import the modules of a trial for the next ones, or never again if that could change how they train."""
        if self._learnt.add(found):
            self._import() if self._learnt.modules else self.kill()

    def _import(self) -> None:
        if self._process is not None and self.ready:
            self._learnt.pending = True
            self._process.import_modules(Import(self._learnt.modules))

    def request(self, fork: Fork, pipe_end: Connection) -> None:
        """Request a trainer; raise OSError if the template has ended."""
        assert self._process is not None
        self._process.request(fork, pipe_end)

    def receive(self) -> Iterator[OfTrainer]:
        """Read the messages that have arrived, and yield those of trainers.

        Raises:
            EOFError, OSError: the template has ended.
            HpoError: the objective or its data cannot be loaded, or its code was changed.
        """
        process = self._process
        assert process is not None
        try:
            for message in process.receive():
                if isinstance(message, OfTrainer):
                    self._deaths = 0 if isinstance(message, Forked) else self._deaths
                    yield message
                else:
                    self._on_loading(message)
                if self._process is not process:
                    return
        except UnreadableMessageError as exc:
            self._keeps_log = True
            raise ObjectiveBrokenError(
                f"the process that loads {self._load.objective} sent a message that cannot be read ({exc}): remove the"
                " code that writes to its pipe"
            ) from exc

    def _on_loading(
        self, message: Described | Loading | Ready | LoadFailed | Unforkable | ImportEnded
    ) -> None:
        match message:
            case Loading(stage, done, total):
                self.stage = f"{stage}: {done:,}" + (f" of {total:,}" if total else "") + " rows"
                self._loading_since = self._clock.now()
            case Described(description):
                if self.description is not None and description.code != self.description.code:
                    # Its earlier trainers and the study's other agents train with the code as it was.
                    raise ObjectiveBrokenError(
                        f"the code of {self._load.objective} was changed while it was being trained: run the same"
                        " command again to continue with the new code"
                    )
                self.description = description
            case Ready(versions, warning, notes):
                if warning and not self.versions:
                    log.warning(f"{self._load.objective}: {warning}")
                for note in notes if not self.versions else ():
                    log.info(note)
                self.ready, self.versions = True, dict(versions)
                if self._learnt.modules:
                    self._import()
            case ImportEnded(problem):
                if not self._learnt.end(problem):
                    self.kill()
            case LoadFailed(name, text, traceback):
                failure = error_class(name)(text)
                if traceback:
                    failure.add_note(traceback)
                self._keeps_log = True
                raise failure
            case Unforkable():
                self._load_less(message)

    def _load_less(self, message: Unforkable) -> None:
        """Start a template that leaves the loading which starts threads to each trainer."""
        assert self._process is not None
        if message.variables:
            log.warning(
                f"the data function of {self._load.objective} sets {message.variables}, which its process cannot hand"
                " over: each trial loads its data itself, which takes longer; to load them once, return what build()"
                " needs, or set plain values, such as lists and arrays"
            )
        elif self._load.preload is Preload.ALL:
            log.warning(
                f"loading {self._load.objective} has started {message.threads}, and threads do not survive a fork:"
                " each trial loads its data itself, which takes longer; to load them once, compute in a data function"
                " (dataset = ...), which has a process of its own, not in prepare()"
            )
        self._process.close()
        self._load = replace(self._load, preload=message.preload, modules=message.modules)
        self.start()

    def replace_dead(self, *, has_requests: bool) -> None:
        """Start another template in place of one that has ended, with requests that it has not answered or without.

        Raises:
            ObjectiveBrokenError: too many in a row have ended, or the first did before it described the objective.
        """
        assert self._process is not None
        status = self._process.close()
        self._process, was_ready, self.ready = None, self.ready, False
        # A template that has loaded everything and has nothing to do was killed from outside: that does not count.
        self._deaths += int((has_requests or not was_ready) and not self.importing)
        self._learnt.lose_template()
        self._keeps_log = True
        if self._deaths >= MAX_TEMPLATE_DEATHS or (not was_ready and self.description is None):
            if status == -signal.SIGTERM:
                # Sent to every process of a service: our own SIGTERM comes in a moment, and decides.
                time.sleep(STATUS_SECONDS)
            how = f"signal {-status}" if status < 0 else f"exit code {status}"
            raise ObjectiveBrokenError(
                f"the process that loads {self._load.objective} ended ({how}) before it could train:"
                f" see {self._log}"
            )
        self.start()
