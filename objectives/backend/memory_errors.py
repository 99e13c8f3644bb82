"""Recognition of errors that mean that memory ran out, on the device or the host."""

from __future__ import annotations

import errno
import re

_CLASSES = frozenset({"ResourceExhaustedError", "OutOfMemoryError", "MemoryError"})
_TEXTS = re.compile(
    # gRPC's status, which TensorFlow and XLA use: "RESOURCE_EXHAUSTED: ...", "Resource exhausted: ...".
    r"resource[_ ]exhausted"
    # "CUDA out of memory", "CUDA_ERROR_OUT_OF_MEMORY", "cudaErrorOutOfMemory", "Ran out of memory in memory space hbm".
    r"|out[_ ]?of[_ ]?memory|\boom when\b|memory (is |was )?exhausted"
    # Statuses of cuBLAS, cuDNN, cuSOLVER, cuSPARSE, cuFFT, cuRAND and their counterparts of AMD.
    r"|alloc(ation)?_?failed|status_memory_error|errormemoryallocation|memory allocation (error|fail)|\bbad_alloc\b"
    # XLA: "Failed to allocate 2147483648 bytes for new constant"; JAX: "Attempting to allocate 2.00G. That was not
    # possible"; PyTorch: "can't allocate memory"; a cuDNN workspace; cupy, NumPy and the kernel: "cannot allocate".
    r"|(fail(ed|s|ure)? to|unable to|could ?n[o']t|can ?n?[o']t) (re)?allocate"
    r"|allocate [^\n]{0,80}that was not possible"
    r"|(not enough|insufficient|no more) ([a-z]+ ){0,3}memory"
    # TensorFlow could not make the copy of a tensor on the GPU.
    r"|(dst|src) tensor is not initialized|failed copying input tensor",
    re.IGNORECASE,
)


def is_out_of_memory(error: BaseException | None) -> bool:
    """Return whether an error, one that caused it, or one of its group means that memory ran out."""
    waiting, seen = [error], set[int]()
    while waiting:
        found = waiting.pop()
        if found is None or id(found) in seen:
            continue
        seen.add(id(found))
        if _means_no_memory(found):
            return True
        waiting.append(found.__cause__ or found.__context__)
        waiting += found.exceptions if isinstance(found, BaseExceptionGroup) else ()
    return False


def _means_no_memory(error: BaseException) -> bool:
    if _CLASSES & {cls.__name__ for cls in type(error).__mro__}:
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    # Libraries report it with an error of their own or with a RuntimeError; a ValueError of an objective does not.
    from_library = isinstance(error, RuntimeError) or type(error).__module__ != "builtins"
    try:
        return from_library and _TEXTS.search(str(error)) is not None
    except Exception:  # noqa: BLE001 - a `__str__` of the objective's own may raise anything
        return False
