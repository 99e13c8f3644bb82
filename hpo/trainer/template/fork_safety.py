"""Threads that loading an objective has left running: a fork does not have them, and waits for them for ever."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from hpo import formatting
from objectives import backend

SETTLE_SECONDS = 0.5
"""Time in which threads that are about to end may do so, such as those of a pool that has been closed."""

FRAMEWORKS = ("keras", "tensorflow", "jax", "torch")
"""Packages that are slow to import."""

TRAINING_LOOP = "objectives.training.loop"

_TASKS = Path("/proc/self/task")
_CONFIGURATION = ("KERAS_", "TF_", "XLA_", "JAX_", "CUDA_")
"""Prefixes of the variables that frameworks read while they are imported."""


class ThreadCheck:
    """Finds threads that have been started since this object was made."""

    def __init__(self) -> None:
        self._before = _threads()

    def cause(self) -> str | None:
        """Return the threads that run now, as the subject of a sentence; None if a fork is sound."""
        until = time.monotonic() + SETTLE_SECONDS
        while started := _threads() - self._before:
            _end_helpers()
            if time.monotonic() > until:
                return _describe(started)
            time.sleep(0.01)
        return None


def imported_frameworks(environment_before: Mapping[str, str]) -> tuple[str, ...]:
    """Return the modules that another template may import ahead of the objective's `prepare`.

    Empty if the objective has configured a framework by environment variables before it imported it.
    """
    ours = {variable for found in backend.BACKENDS.values() for variable in found.variables}
    for name in os.environ.keys() | environment_before.keys():
        changed = os.environ.get(name) != environment_before.get(name)
        if changed and name.startswith(_CONFIGURATION) and name not in ours:
            return ()
    return tuple(name for name in (TRAINING_LOOP, *FRAMEWORKS) if name in sys.modules)


def _threads() -> set[int]:
    """Return the ids of this process's threads: all on Linux, elsewhere those of Python."""
    try:
        return {int(entry.name) for entry in _TASKS.iterdir() if not _is_restarted(entry)}
    except OSError:
        return {thread.native_id or 0 for thread in threading.enumerate()}


def _is_restarted(task: Path) -> bool:
    """Return whether a thread's own library prepares forks and starts it again: jemalloc, in pyarrow and polars."""
    with suppress(OSError):
        return (task / "comm").read_text().strip() == "jemalloc_bg_thd"
    return False


def _end_helpers() -> None:
    """End the threads of tqdm and its subclasses that watch progress bars; the next bar starts another."""
    for thread in threading.enumerate():
        if type(thread).__module__ == "tqdm._monitor":
            thread.exit()  # type: ignore[attr-defined]


def _describe(started: set[int]) -> str:
    named = [thread.name for thread in threading.enumerate() if thread.native_id in started]
    # Threads of native libraries have no name in Python.
    if len(named) == len(started) or (named and not _computed()):
        names = ", ".join(named[:3]) + (", …" if len(named) > 3 else "")
        return f"{formatting.counted(len(named), 'thread')} ({names})"
    return (
        f"{formatting.counted(len(started), 'thread')} of {' and '.join(_computed()) or 'a native library'}"
    )


def _computed() -> list[str]:
    """Return the frameworks that have computed in this process; private names that are missing count as no."""
    found = []
    with suppress(Exception):
        context = sys.modules["tensorflow.python.eager.context"]
        if context.context_safe()._initialized:
            found.append("TensorFlow")
    with suppress(Exception):
        if sys.modules["jax._src.xla_bridge"].backends_are_initialized():
            found.append("JAX")
    with suppress(Exception):
        if sys.modules["torch"].cuda.is_initialized():
            found.append("CUDA")
    return found
