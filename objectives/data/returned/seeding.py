"""Random numbers of data functions, equal in each process that loads the data: all trials train on the same."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

import numpy as np

FRAMEWORKS = ("tensorflow", "torch", "keras")
"""Modules with a generator of random numbers for all; Keras, which seeds its backend too, after those."""


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed the generators of Python, NumPy and frameworks, also of those that are imported within this block.

    Otherwise data would depend on whether the file of the objective, or only the data function, imports a framework.
    Generators of Python and NumPy continue afterwards as if nothing had been drawn.
    """
    states = random.getstate(), np.random.get_state()
    random.seed(seed)
    np.random.seed(seed % 2**32)
    for name in FRAMEWORKS:
        if name in sys.modules:
            _seed(sys.modules[name], seed)
    finder = _SeedingFinder(seed)
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        random.setstate(states[0])
        np.random.set_state(states[1])


class _SeedingFinder(MetaPathFinder):
    """Seeds a framework at the end of its import."""

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name not in FRAMEWORKS:
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            execute, seed = spec.loader.exec_module, self._seed

            def exec_module(module: ModuleType) -> None:
                execute(module)
                _seed(module, seed)

            spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


def _seed(framework: Any, seed: int) -> None:
    """Seed one framework and no generator of Python or NumPy."""
    seed %= 2**32
    match framework.__name__:
        case "tensorflow":
            framework.random.set_seed(seed)
        case "torch":
            framework.manual_seed(seed)
        case "keras":
            states = random.getstate(), np.random.get_state()
            framework.utils.set_random_seed(seed)
            random.setstate(states[0])
            np.random.set_state(states[1])
