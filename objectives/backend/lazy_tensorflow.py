"""Keras on another backend, without TensorFlow.

Wherever TensorFlow is installed, Keras imports it to set its seed and to look whether a setting of a layer is of one of
its types: two seconds of processor time and 300 MB in each process, for nothing.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import wrapt

_MODULES = ("keras.src.utils.rng_utils", "keras.src.saving.serialization_lib")
"""Modules of Keras that use TensorFlow if it is `available`."""

_postponed = False
_seed: int | None = None
"""Seed that TensorFlow gets when it is imported."""


class _IfImported:
    """TensorFlow, which is `available` only once other code has imported it."""

    @property
    def available(self) -> bool:
        return "tensorflow" in sys.modules

    def __getattr__(self, name: str) -> Any:
        return getattr(sys.modules["tensorflow"], name)


def postpone() -> None:
    """Let Keras use TensorFlow only where your own code imports it, unless it is the backend."""
    global _postponed
    if _postponed:
        return
    _postponed = True
    for name in _MODULES:
        wrapt.register_post_import_hook(_replace, name)


def _replace(module: ModuleType) -> None:
    from keras.src.backend import config

    if config.backend() != "tensorflow" and hasattr(module, "tf"):
        module.tf = _IfImported()  # type: ignore[attr-defined]


def seed_at_import(seed: int) -> None:
    """Set TensorFlow's seed when other code imports it; Keras sets that of an imported one."""
    global _seed
    is_first, _seed = _seed is None, seed
    if is_first and "tensorflow" not in sys.modules:
        wrapt.register_post_import_hook(_set_seed, "tensorflow")


def _set_seed(tensorflow: Any) -> None:
    if _seed is not None:
        tensorflow.random.set_seed(_seed)
