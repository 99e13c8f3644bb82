"""Recognizes out-of-memory errors of every backend, on the device or the host."""

from __future__ import annotations

_CLASSES = frozenset({"ResourceExhaustedError", "OutOfMemoryError", "MemoryError"})
_PHRASES = (
    "resource_exhausted",
    "out of memory",
    "out_of_memory",
    "oom when allocating",
    "can't allocate memory",
    "not enough memory",
)


def is_out_of_memory(error: BaseException | None) -> bool:
    """Return whether an error, or one that caused it, means that memory ran out."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        if _CLASSES & {cls.__name__ for cls in type(error).__mro__}:
            return True
        text = str(error).lower()
        from_backend = isinstance(error, RuntimeError) or type(error).__module__.startswith("tensorflow")
        if from_backend and any(phrase in text for phrase in _PHRASES):
            return True
        error = error.__cause__ or error.__context__
    return False
