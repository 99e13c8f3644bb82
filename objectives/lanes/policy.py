"""Keras' dtype policy, which Keras keeps by thread: that of the thread that has imported this module, for all lanes."""

from __future__ import annotations

import keras

_policy = keras.config.dtype_policy()


def apply() -> None:
    """Let this thread build models with the policy of the process, which code of yours may have set."""
    keras.config.set_dtype_policy(_policy)
