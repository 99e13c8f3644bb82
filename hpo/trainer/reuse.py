"""Whether a trainer may train another attempt: only if the one before has left nothing that the next could notice.

A process that has traced the training step of a model trains the next model of the same shape at once. Its results are
those of a fresh process to the last digit; where that is not certain, the process ends as any other does.
"""

from __future__ import annotations

import atexit
import gc
import logging
import os
import resource
import signal
import sys
import threading
import weakref
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from contextvars import ContextVar, copy_context
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpo.outcomes import Outcome
from hpo.trainer.memory import private_bytes
from hpo.trainer.messages import Start
from hpo.trainer.output import AttemptOutput
from hpo.trainer.template.data_digest import arrays_of
from hpo.trainer.template.loading import ObjectiveLoader
from objectives import backend, loader
from objectives.base import Objective
from objectives.data.returned.module_state import ModuleState
from objectives.data.returned.variables import fingerprint
from objectives.keras_objective import KerasObjective

MOST_ATTEMPTS = 50
"""Number of attempts after which a trainer is replaced, whatever it has left behind."""
MOST_GROWTH_BYTES = 256 * 2**20
"""Growth of the private memory since the end of the first attempt with which a trainer is replaced."""
OWN_THREADS = frozenset({"MainThread", "log", "listener"})
"""Names of the threads of a trainer between two attempts."""

_LIMITS = sorted({value for name, value in vars(resource).items() if name.startswith("RLIMIT_")})
_TIMERS = signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF
_ORDERLY = (Outcome.COMPLETE, Outcome.PRUNED, Outcome.PREEMPTED)
"""Ends after a whole epoch. Freeze-thaw pauses a trial by preempting it."""


@dataclass(frozen=True)
class Surroundings:
    """All of a process that code of an objective may change, and that training of another model may depend on."""

    environment: Mapping[str, str]
    folder: str
    path: tuple[str, ...]
    exit_handlers: int
    finalizers: int
    threads: Mapping[str, int]
    children: str
    keras: tuple[object, ...]
    signals: tuple[object, ...]
    limits: tuple[object, ...]
    log_handlers: int
    context: Mapping[ContextVar[Any], object]
    """Values of context variables; NumPy's handling of errors is one."""

    @staticmethod
    def now() -> Surroundings:
        return Surroundings(
            environment=dict(os.environ),
            folder=str(Path.cwd()),
            path=tuple(sys.path),
            exit_handlers=atexit._ncallbacks(),
            finalizers=_finalizers(),
            # A thread of the objective may have such a name, too.
            threads=Counter(one.name for one in threading.enumerate()) - Counter(OWN_THREADS),
            children="".join(one.read_text() for one in Path("/proc/self/task").glob("*/children")),
            keras=backend.current().keras_settings(),
            signals=(
                *map(signal.getsignal, sorted(signal.valid_signals())),
                *(signal.getitimer(one)[0] > 0 for one in _TIMERS),
            ),
            limits=(
                *(resource.getrlimit(one) for one in _LIMITS),
                os.sched_getaffinity(0),
                os.getpriority(os.PRIO_PROCESS, 0),
                sys.getrecursionlimit(),
                gc.isenabled(),
            ),
            log_handlers=sum(not isinstance(one(), logging.NullHandler) for one in _log_handlers()),
            context=dict(copy_context().items()),
        )


def _finalizers() -> int:
    """Return the number of objects whose end at exit code waits for, without those of JAX's traces."""
    registered: Mapping[Any, Any] = getattr(weakref.finalize, "_registry", {})
    modules = [one.func.__module__ or "" for one in [*registered.values()] if one.atexit]
    return sum(not module.startswith("jax.") for module in modules)


def _log_handlers() -> list[Any]:
    """Return weak references to all handlers of loggers."""
    return getattr(logging, "_handlerList", [])


class Reuse:
    """Decides after each attempt of this process whether it may train another one."""

    def __init__(self, loaded: ObjectiveLoader, start: Start, output: AttemptOutput) -> None:
        self._loaded = loaded
        self._output = output
        self._attempts = 0
        self._memory = 0
        self._enabled = False
        self._surroundings: Surroundings | None = None
        self._modules: list[ModuleState] = []
        self._caches: list[object] = []
        self._attributes: dict[str, str | None] = {}
        if start.may_stay and loaded.prepared and sys.platform.startswith("linux"):
            # The working directory may be gone, and an attribute may be any object.
            with suppress(Exception):
                self._enabled = self._prepare(loaded.prepare())

    @property
    def experienced(self) -> bool:
        """Whether this process has trained another attempt before."""
        return self._attempts > 0

    def _prepare(self, objective: Objective) -> bool:
        """Note what the first attempt begins with; return whether another one may follow it."""
        own_loop = isinstance(objective, KerasObjective) and type(objective).train is KerasObjective.train
        if not own_loop or not backend.current().keeps_functions:
            return False
        assert isinstance(objective, KerasObjective)
        if not loader.is_shipped(self._loaded.load.objective):
            # `build` may be that of a shipped objective, and the class yours.
            sources: list[Any] = [type(objective), type(objective).build]
            different = len({one.__module__ for one in sources}) > 1
            self._modules = [ModuleState(one) for one in (sources if different else sources[1:])]
            self._caches = [one.caches() for one in self._modules]
        # Python registers one exit handler for all finalizers with the first of them, which tracing by JAX may make.
        weakref.finalize(self, _finalizers).detach()
        self._surroundings = Surroundings.now()
        self._attributes = _attributes(objective)
        objective.keep_programs()
        self._loaded.note_attributes()
        return True

    def permits(self, outcome: Outcome) -> bool:
        """Return whether another attempt may follow the one that has ended with this outcome."""
        self._attempts += 1
        if not self._enabled or outcome not in _ORDERLY or self._attempts >= MOST_ATTEMPTS:
            return False
        # Code of the objective may have put anything anywhere.
        with suppress(Exception):
            return self._output.unchanged and Surroundings.now() == self._surroundings and self._is_clean()
        return False

    def _is_clean(self) -> bool:
        self._loaded.drop()
        objective = self._loaded.prepare()
        assert isinstance(objective, KerasObjective)
        memory = private_bytes()
        self._memory = self._memory or memory
        return (
            objective.keeps_program()
            and memory - self._memory <= MOST_GROWTH_BYTES
            and _attributes(objective) == self._attributes
            and not any(one.changes() for one in self._modules)
            and [one.caches() for one in self._modules] == self._caches
        )


def _attributes(objective: KerasObjective) -> dict[str, str | None]:
    """Return digests of the objective's attributes that its code may have changed in place, its data included."""
    shared: dict[str, Any] = vars(objective)
    found = {name: fingerprint(value) for name, value in shared.items() if name not in ("_data", "_programs")}
    # Those of memory-mapped files cannot be changed, and would be read from disk.
    arrays = [one for one in arrays_of(objective) if one.flags.writeable and not one.dtype.hasobject]
    return found | {"_data": fingerprint(arrays)}
