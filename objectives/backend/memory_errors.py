"""Recognition of errors that mean that memory ran out, on the device or the host, and of those that may mean it."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator

_CLASSES = frozenset({"ResourceExhaustedError", "OutOfMemoryError", "MemoryError"})

_DEVICE = r"((device|gpu|cuda|hip|xpu|tpu|hbm|video|graphics|host|cpu|system|main|pinned)[_ ]?)?"
_AMOUNT = r"(memory|bytes|\d[\d.]* ?([kmgt]i?b?|b)\b|buffer|workspace|scratch|constant|tensor|array|storage|stack|heap)"

_TEXTS = re.compile(
    # gRPC's status, which TensorFlow and XLA use: "RESOURCE_EXHAUSTED: ...", "Resource exhausted: ...".
    r"resource[_ ]exhausted"
    # "CUDA out of memory", "CUDA_ERROR_OUT_OF_MEMORY", "cudaErrorOutOfMemory", "Ran out of memory in memory space hbm",
    # "UR_RESULT_ERROR_OUT_OF_DEVICE_MEMORY".
    rf"|out[_ ]?of[_ ]?{_DEVICE}memory|\boom when\b|memory (is |was )?exhausted"
    # Statuses of cuBLAS, cuDNN, cuSOLVER, cuSPARSE, cuFFT, cuRAND and their counterparts of AMD and OpenCL.
    r"|alloc(ation)?_?fail(ed|ure)|status_memory_error|errormemoryallocation|memory allocation (error|fail)"
    r"|\bbad_alloc\b"
    # XLA: "Failed to allocate 2147483648 bytes for new constant"; JAX: "Attempting to allocate 2.00G. That was not
    # possible"; PyTorch: "can't allocate memory"; a cuDNN workspace; CuPy, NumPy and the kernel: "cannot allocate".
    rf"|(fail(ed|s|ure)? to|unable to|could ?n[o']t|can ?n?[o']t) (re)?alloc(ate)?\b[^\n]{{0,80}}?\b{_AMOUNT}"
    r"|(allocate|reserve) [^\n]{0,80}that was not possible"
    rf"|exceed(s|ed)? (the )?(memory limit|(available|free) {_DEVICE}memory)"
    # "insufficient system memory", "not enough memory: you tried to allocate"; not "not enough memory cells".
    rf"|(not enough|insufficient|no more) ((free|available) )?{_DEVICE}memory\b(?! [a-z]+s\b)"
    # TensorFlow could not make the copy of a tensor on the GPU.
    r"|(dst|src) tensor is not initialized|failed copying input tensor",
    re.IGNORECASE,
)

_OTHER_RESOURCES = re.compile(
    # TensorFlow makes a full disk, a quota and too many files an exhausted resource, and gRPC a large message.
    r"no space left|quota exceeded|too many open files|message larger than max"
    # That of a block of GPU threads, and of a container's segment: no configuration's own.
    r"|(out of resources?:|out of|insufficient) shared memory",
    re.IGNORECASE,
)
_FULL_DISK = re.compile(r"no space left on device|disk quota exceeded", re.IGNORECASE)

_LIBRARY = r"(cu|hip|roc)?(dnn|blas|blaslt|solver|solverdn|sparse|fft|rand)"
_AMBIGUOUS = re.compile(
    # A library of CUDA makes its handle or chooses an algorithm. That fails if it finds no memory, and also if versions
    # do not fit.
    rf"{_LIBRARY}_(status_)?(not_initialized|internal_error|execution_failed|initialization_(error|failed))"
    rf"|(could not|failed to|unable to) (create|initialize) (a )?{_LIBRARY}|{_LIBRARY}create|{_LIBRARY} internal error"
    r"|dnn library initialization failed|cudnn failed to initialize"
    r"|(get|find|determine) (the )?(best )?(cudnn )?convolution algorithm|no algorithm worked|all algorithms tried for"
    r"|unable to find (a valid cudnn algorithm|an engine)"
    # NCCL, and PyTorch's allocator.
    r"|nccl(unhandledcuda|system)error|unhandled (cuda|system) error|nvml_success == ",
    re.IGNORECASE,
)


def is_out_of_memory(error: BaseException | None) -> bool:
    """Return whether an error, one that caused it, or one of its group means that memory ran out."""
    return any(map(_means_no_memory, _related(error)))


def may_be_out_of_memory(error: BaseException | None) -> bool:
    """Return whether an error is one that libraries of a GPU also raise if they find no memory for themselves."""
    return any(_from_library(one) and _AMBIGUOUS.search(_text(one)) is not None for one in _related(error))


def is_disk_full(error: BaseException | None) -> bool:
    """Return whether a library reports a full disk by an error of its own, such as an exhausted resource."""
    return any(_from_library(one) and _FULL_DISK.search(_text(one)) is not None for one in _related(error))


def _related(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error, those that caused it and those of its groups, each once."""
    waiting, seen = [error], set[int]()
    while waiting:
        found = waiting.pop()
        if found is None or id(found) in seen:
            continue
        seen.add(id(found))
        yield found
        waiting.append(found.__cause__ or found.__context__)
        waiting += found.exceptions if isinstance(found, BaseExceptionGroup) else ()


def _means_no_memory(error: BaseException) -> bool:
    if isinstance(error, MemoryError):
        return True
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno == errno.ENOMEM
    text = _text(error)
    if _OTHER_RESOURCES.search(text) is not None:
        return False
    named = bool(_CLASSES & {cls.__name__ for cls in type(error).__mro__})
    return named or (_from_library(error) and _TEXTS.search(text) is not None)


def _from_library(error: BaseException) -> bool:
    """Return whether an error may come from a library: a ValueError of an objective does not.

    Libraries report with an error of their own, a RuntimeError, or an OSError without a number.
    """
    if isinstance(error, OSError):
        return error.errno is None
    return isinstance(error, RuntimeError) or type(error).__module__ != "builtins"


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # noqa: BLE001 - a `__str__` of the objective's own may raise anything
        return ""
