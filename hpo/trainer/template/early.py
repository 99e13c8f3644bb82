"""A template that is started before its study is known: importing a framework takes longer than opening a database."""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from hpo.process.process_groups import kill_group
from hpo.trainer.template.interpreter import Interpreter

if TYPE_CHECKING:
    from hpo.trainer.template.messages import Load
    from hpo.trainer.template.process import TemplateProcess


class EarlyTemplate:
    """The first template of a pool, ended at the end of the block if the pool has not taken it.

    Importing this module imports neither Optuna nor NumPy, so that the template imports them next to the command.
    """

    def __init__(self, log: Path) -> None:
        self._log = log
        # Trainers that are forked from it end when this process does.
        self._guard = os.pipe()
        self._load: Load | None = None
        self._backend = os.environ.get("KERAS_BACKEND")
        try:
            self._interpreter: Interpreter | None = Interpreter(log, self._guard[0])
        except BaseException:
            self._close_guard()
            raise

    def __enter__(self) -> EarlyTemplate:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._interpreter is not None:
            self._end(self._interpreter)
            self._log.unlink(missing_ok=True)
        self._close_guard()

    def load(self, load: Load) -> None:
        """Let it load what the study will probably have."""
        from hpo.trainer.template.process import TemplateProcess

        assert self._interpreter is not None
        self._load = load
        TemplateProcess(self._interpreter).load(load)

    def start(self, load: Load, log: Path, guard: int) -> TemplateProcess:
        """Return this template if it loads just that, else end it and start another; for `TrainerPool`."""
        from hpo.trainer.template.process import TemplateProcess, start_template

        if self._load is None and self._interpreter is not None:
            self.load(load)
        interpreter, self._interpreter = self._interpreter, None
        # Its study may turn out to train with another backend, which Keras reads from the environment.
        same_backend = os.environ.get("KERAS_BACKEND") == self._backend
        if interpreter is not None and load == self._load and same_backend:
            return TemplateProcess(interpreter)
        if interpreter is not None:
            self._end(interpreter)
        return start_template(load, log, guard)

    def _end(self, interpreter: Interpreter) -> None:
        interpreter.connection.close()
        interpreter.process.kill()
        interpreter.process.wait()
        # It led a session, with the processes that the objective started while it was imported.
        kill_group(interpreter.process.pid)

    def _close_guard(self) -> None:
        for descriptor in self._guard:
            os.close(descriptor)
