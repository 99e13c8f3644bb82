"""State that code of an objective leaves in a trainer, after which the trainer is replaced."""

from __future__ import annotations

import functools
import logging
import signal
import sys
import threading
import weakref
from collections.abc import Callable
from contextvars import ContextVar
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from hpo.trainer.reuse import Surroundings, _attributes
from objectives import backend
from objectives.data.returned.module_state import ModuleState
from objectives.data.splits import Data

VARIABLE = ContextVar("variable", default=0)


def _set_alarm() -> Callable[[], object]:
    signal.setitimer(signal.ITIMER_VIRTUAL, 600.0)
    return lambda: signal.setitimer(signal.ITIMER_VIRTUAL, 0.0)


def _handle_signal() -> Callable[[], object]:
    before = signal.signal(signal.SIGUSR2, lambda *_: None)
    return lambda: signal.signal(signal.SIGUSR2, before)


def _set_variable() -> Callable[[], object]:
    token = VARIABLE.set(1)
    return lambda: VARIABLE.reset(token)


def _raise_numeric_errors() -> Callable[[], object]:
    before = np.seterr(all="raise")
    return lambda: np.seterr(**before)


def _limit_recursion() -> Callable[[], object]:
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(before + 1)
    return lambda: sys.setrecursionlimit(before)


def _log_elsewhere() -> Callable[[], object]:
    handler = logging.StreamHandler()
    logging.getLogger("mine").addHandler(handler)
    return lambda: logging.getLogger("mine").removeHandler(handler)


def _start_thread() -> Callable[[], object]:
    ended = threading.Event()
    threads = [threading.Thread(target=ended.wait, name="log", daemon=True) for _ in range(2)]
    for thread in threads:
        thread.start()

    def end() -> None:
        ended.set()
        for thread in threads:
            # The next test counts threads.
            thread.join()

    return end


def _await_end() -> Callable[[], object]:
    return weakref.finalize(Surroundings, print).detach


@pytest.mark.parametrize(
    "leave",
    [
        _await_end,
        _set_alarm,
        _handle_signal,
        _set_variable,
        _raise_numeric_errors,
        _limit_recursion,
        _log_elsewhere,
        _start_thread,
    ],
)
def test_state_that_an_attempt_leaves_is_noticed(leave, monkeypatch):
    # Importing Keras takes seconds.
    monkeypatch.setattr(type(backend.current()), "keras_settings", lambda _: ())
    before = Surroundings.now()
    assert Surroundings.now() == before
    undo = leave()
    try:
        assert Surroundings.now() != before
    finally:
        undo()


def test_traces_of_jax_are_not_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(backend.current()), "keras_settings", lambda _: ())

    def forget() -> None:
        pass

    forget.__module__ = "jax._src.interpreters.partial_eval"
    before = Surroundings.now()
    kept = weakref.finalize(forget, forget)
    assert Surroundings.now() == before
    kept.detach()


def test_data_that_an_attempt_changes_in_place_are_noticed():
    x, y = np.zeros((3, 2), np.float32), np.zeros(3, np.int64)
    data = Data(
        x_train=x, y_train=y, x_valid=x, y_valid=y, x_test=None, y_test=None, classes=(), mean=(), std=()
    )
    objective: Any = SimpleNamespace(_data=data)
    before = _attributes(objective)
    assert _attributes(objective) == before
    np.add(data.x_train, 1.0, out=data.x_train)
    assert _attributes(objective) != before


def test_values_that_functions_of_a_module_keep_are_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module: Any = ModuleType("cached")
    module.__file__ = str(tmp_path / "cached.py")
    monkeypatch.setitem(sys.modules, "cached", module)

    class Mine:
        @staticmethod
        @functools.cache
        def drawn(size: int) -> int:
            return size

    Mine.__module__, Mine.__qualname__ = "cached", "Mine"
    module.drawn, module.Mine = functools.cache(lambda size: size), Mine
    state = ModuleState(Mine)
    for function in (module.drawn, Mine.drawn):
        before = state.caches()
        function(3)
        assert state.caches() != before
    exec("def piled(seen=[]): seen.append(1)", vars(module))
    exec(
        "def made():\n n = 0\n def count():\n  nonlocal n; n += 1\n return count\ncount = made()",
        vars(module),
    )
    for function in (module.piled, module.count):
        before = state.caches()
        assert state.caches() == before
        function()
        assert state.caches() != before
    module.numbers = (number for number in range(3))
    assert state.caches() != state.caches()
