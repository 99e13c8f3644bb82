"""Training of a Keras model: the loop and its parts."""

from __future__ import annotations

from typing import Any


def __getattr__(name: str) -> Any:
    """Return `optimizer`, which objectives of version 0.1 import from here, without importing Keras before."""
    if name != "optimizer":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from objectives.training.loop import optimizer

    return optimizer
