"""Optimizers with further methods, whatever their class is."""

from __future__ import annotations

from typing import Any

import keras


def with_mixin(
    optimizer: keras.optimizers.Optimizer, mixin: type[keras.optimizers.Optimizer], **attributes: Any
) -> keras.optimizers.Optimizer:
    """Return the optimizer as one of its class with `mixin` before it, and with these attributes of the class.

    The class changes in place, because a copy would lose the variables that are exempt from weight decay. The
    attributes are not the optimizer's own, which Keras and TensorFlow would track as its state.
    """
    kind = type(optimizer)
    optimizer.__class__ = type(f"{kind.__name__}{mixin.__name__}", (mixin, kind), attributes)
    return optimizer
