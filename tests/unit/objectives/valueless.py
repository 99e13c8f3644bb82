"""Models for tests of their structure alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import keras
from keras.src.backend.common import global_state

WAITING = "uninitialized_variables"
"""Keras' list of the variables that get their values after a block without state."""


@contextmanager
def without_values() -> Iterator[None]:
    """Give variables of models that are built in this block a shape and no values, which take longest to make."""
    waiting = list(global_state.get_global_attribute(WAITING, []))
    try:
        with keras.StatelessScope(initialize_variables=False):
            yield
    finally:
        global_state.set_global_attribute(WAITING, waiting)
