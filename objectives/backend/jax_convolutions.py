"""Convolutions on JAX's processor backend, with the gradient of their filters summed over parts of a batch.

XLA computes that gradient as a convolution in which the examples of a batch are the channels. Beyond some 32 of them it
leaves the processor's caches: the gradient of a whole batch takes two to four times as long as those of its parts.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

from objectives.backend import interface

EXAMPLES = 16
"""Least number of examples whose gradients are computed at once; 16 float32 are a cache line."""
MOST_PARTS = 8
"""Largest number of parts, each of which takes time to compile."""
LEAST_VALUES = 1 << 18
"""Number of input values from which a batch is divided; those of smaller ones stay in the caches."""


def applies() -> bool:
    """Return whether `convolution` is faster than Keras' own here; GPUs have their own kernels."""
    if interface.name() != "jax":
        return False
    import jax

    return bool(jax.default_backend() == "cpu")


def convolution(x: Any, kernel: Any, strides: Sequence[int], padding: str) -> Any:
    """Return the convolution of images (n, height, width, channels).

    `kernel` is (height, width, channels, filters), `padding` "same" or "valid".
    """
    return _operation(tuple(strides), padding.upper())(x, kernel)


@functools.cache
def _operation(strides: tuple[int, ...], padding: str) -> Any:
    import jax

    def plain(x: Any, kernel: Any) -> Any:
        return jax.lax.conv_general_dilated(
            x, kernel, strides, padding, dimension_numbers=("NHWC", "HWIO", "NHWC")
        )

    def forward(x: Any, kernel: Any) -> tuple[Any, Any]:
        return plain(x, kernel), (x, kernel)

    def backward(saved: Any, upstream: Any) -> tuple[Any, Any]:
        x, kernel = saved
        (to_input,) = jax.vjp(lambda x: plain(x, kernel), x)[1](upstream)

        size = _part(x)

        def part(start: int) -> Any:
            images, gradient = (one[start : start + size] for one in (x, upstream))
            (found,) = jax.vjp(lambda kernel: plain(images, kernel), kernel)[1](gradient)
            return found

        parts = [part(start) for start in range(0, len(x), size)]
        return to_input, functools.reduce(jax.numpy.add, parts)

    operation = jax.custom_vjp(plain)
    operation.defvjp(forward, backward)
    return operation


def _part(x: Any) -> int:
    """Return the number of examples in a part of a batch."""
    return len(x) if x.size < LEAST_VALUES else max(EXAMPLES, math.ceil(len(x) / MOST_PARTS))
