"""Convolutions of several lanes at a time, each with a kernel of its own, in the form that is fastest on this device.

`vmap` makes one grouped convolution of them, for which processors have no fast kernel and GPUs not always one. The
other forms are one batched matrix product over patches, and a convolution for each lane. They are timed once for each
shape, forward and backward, the first time that a program with it is traced, with few lanes that stand for more; all
compute the same up to rounding.
"""

from __future__ import annotations

import functools
import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np

from objectives.backend.memory_errors import is_out_of_memory

Form = Literal["grouped", "patches", "apart"]
MOST_APART = 8
"""Largest number of lanes with convolutions of their own: the program grows with each."""
TIMED_LANES = (4, 16)
"""Numbers of lanes that are timed: the second from so many lanes on, the first for fewer."""
_REPEATS = 5
_TIMED_SECONDS = 0.1
"""A form is timed up to so many times, in about so many seconds."""

_here = threading.local()
_seconds: dict[Any, dict[Form, float]] = {}
"""Seconds of each form, by direction, number of timed lanes, shapes and settings."""
_chosen: dict[Any, Form] = {}
_lock = threading.Lock()
Function = Callable[..., Any]


def in_lanes() -> bool:
    """Return whether this thread traces a program of lanes."""
    return getattr(_here, "traces", False)


@contextmanager
def traced() -> Iterator[None]:
    """Let this thread trace a program of lanes."""
    _here.traces = True
    try:
        yield
    finally:
        _here.traces = False


def choices() -> dict[str, Form]:
    """Return the forms chosen so far in this process, by direction, number of lanes and shapes."""
    with _lock:
        return {f"{key[0]} {key[1]} × {key[2]}": form for key, form in _chosen.items()}


def convolution(x: Any, kernel: Any, strides: Sequence[int], padding: str) -> Any:
    """Return the convolution of one lane's images (n, height, width, channels) while a program of lanes is traced.

    `kernel` is (height, width, channels, filters), `padding` "same" or "valid".
    """
    return _operation(tuple(strides), padding.upper())(x, kernel)


@functools.cache
def _operation(strides: tuple[int, ...], padding: str) -> Function:
    import jax
    from jax.custom_batching import custom_vmap

    def native(x: Any, kernel: Any) -> Any:
        return jax.lax.conv_general_dilated(
            x, kernel, strides, padding, dimension_numbers=("NHWC", "HWIO", "NHWC")
        )

    def product(x: Any, kernel: Any) -> Any:
        patches = jax.numpy.concatenate(_patches(x, kernel.shape[:2], strides, padding), -1)
        return patches @ kernel.reshape(-1, kernel.shape[-1])

    def gradients_of(function: Function) -> Function:
        return lambda x, kernel, upstream: jax.vjp(function, x, kernel)[1](upstream)

    plain, gradients = custom_vmap(native), custom_vmap(gradients_of(native))
    plain.def_vmap(_rule("forward", (strides, padding), native, product))
    gradients.def_vmap(
        _rule("backward", (strides, padding), gradients_of(native), gradients_of(product), outputs=2)
    )
    convolved = jax.custom_vjp(plain)
    convolved.defvjp(
        lambda *given: (plain(*given), given), lambda given, upstream: gradients(*given, upstream)
    )
    return convolved  # type: ignore[no-any-return,unused-ignore]


def _patches(x: Any, sides: Sequence[int], strides: Sequence[int], padding: str) -> list[Any]:
    """Return, for each position in the kernel, the pixel of the input (n, height, width, channels) of each output."""
    import jax

    n, *sizes, channels = x.shape
    counts, margins = [], []
    for size, side, stride in zip(sizes, sides, strides, strict=True):
        same = padding == "SAME"
        counts.append(-(-size // stride) if same else (size - side) // stride + 1)
        missing = max((counts[-1] - 1) * stride + side - size, 0) if same else 0
        margins.append((missing // 2, missing - missing // 2))
    padded = jax.numpy.pad(x, ((0, 0), *margins, (0, 0)))
    (rows, columns), (down, right) = counts, strides
    return [
        jax.lax.slice(
            padded,
            (0, i, j, 0),
            (n, i + (rows - 1) * down + 1, j + (columns - 1) * right + 1, channels),
            (1, down, right, 1),
        )
        for i in range(sides[0])
        for j in range(sides[1])
    ]


def _rule(direction: str, settings: Any, native: Function, product: Function, outputs: int = 1) -> Function:
    """Return the rule by which `vmap` computes a function of several lanes."""
    import jax

    forms = _forms(native, product)

    def rule(lanes: int, batched: Sequence[bool], *given: Any) -> tuple[Any, Any]:
        arrays = [
            one if has_axis else jax.numpy.broadcast_to(one, (lanes, *one.shape))
            for one, has_axis in zip(given, batched, strict=True)
        ]
        shapes = tuple((one.shape[1:], str(one.dtype)) for one in arrays)
        with _lock:
            form = _fastest(forms, lanes, shapes, (direction, settings))
            _chosen[direction, lanes, shapes, settings] = form
        return forms[form](*arrays), True if outputs == 1 else (True,) * outputs

    return rule


def _forms(native: Function, product: Function) -> dict[Form, Function]:
    """Return the forms of a function of one lane as functions of stacked arrays."""
    import jax

    def apart(*arrays: Any) -> Any:
        found = [native(*(one[lane] for one in arrays)) for lane in range(arrays[0].shape[0])]
        return jax.tree.map(lambda *each: jax.numpy.stack(each), *found)

    return {"grouped": jax.vmap(native), "patches": jax.vmap(product), "apart": apart}


def _fastest(forms: dict[Form, Function], lanes: int, shapes: Sequence[tuple[Any, str]], name: Any) -> Form:
    """Return the form that takes least time for arrays of these shapes and types in each lane."""
    import jax

    if lanes == 1:
        return "apart"
    timed = TIMED_LANES[lanes >= TIMED_LANES[1]]
    # Measured: on processors XLA computes grouped convolutions 5 to 15 times slower than the others.
    considered: list[Form] = ["patches", "apart"]
    if jax.default_backend() != "cpu":
        considered.append("grouped")
    if lanes > MOST_APART:
        considered.remove("apart")
    if considered == ["patches"]:
        return "patches"
    known = _seconds.setdefault((*name, timed, tuple(shapes)), {})
    missing = [form for form in considered if form not in known]
    if missing:
        known |= _timed([forms[form] for form in missing], missing, timed, shapes)
    return min(considered, key=known.__getitem__)


def _timed(
    functions: Sequence[Function], forms: Sequence[Form], lanes: int, shapes: Sequence[tuple[Any, str]]
) -> dict[Form, float]:
    """Return the least seconds of a few calls of each form; infinity if there is too little memory."""
    import jax

    rng = np.random.default_rng(0)

    def compiled(function: Function) -> Any:
        given = [jax.ShapeDtypeStruct((lanes, *shape), dtype) for shape, dtype in shapes]
        try:
            return jax.jit(function).lower(*given).compile()
        except Exception as exc:
            # XLA tries kernels of GPUs when it compiles.
            if not is_out_of_memory(exc):
                raise
        return None

    def seconds(function: Function | None) -> float:
        best = math.inf
        if function is None:
            return best
        try:
            made = [rng.standard_normal((lanes, *shape), np.float32) for shape, _ in shapes]
            arrays = [jax.numpy.asarray(one, dtype) for one, (_, dtype) in zip(made, shapes, strict=True)]
            jax.block_until_ready(function(*arrays))
            end = time.perf_counter() + _TIMED_SECONDS
            for _ in range(_REPEATS):
                began_at = time.perf_counter()
                jax.block_until_ready(function(*arrays))
                best = min(best, time.perf_counter() - began_at)
                if time.perf_counter() > end:
                    break
        except Exception as exc:
            if not is_out_of_memory(exc):
                raise
        return best

    # In threads of their own, which trace no program as this one does; compiled side by side, timed in turn.
    with ThreadPoolExecutor(len(functions)) as pool:
        programs = [*pool.map(compiled, functions)]
        return dict(zip(forms, [pool.submit(seconds, one).result() for one in programs], strict=True))
