"""The numbers, names and texts that an objective gives: kept as given, or refused by name.

A metric becomes a float. Only characters that neither UTF-8 nor PostgreSQL can store are replaced in texts, by their
escapes.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, TypeVar

from objectives.names import MOST_NAME, is_text

T = TypeVar("T")

_UNSTORABLE = re.compile("[\0\ud800-\udfff]")
_NO_REAL_NUMBERS = ("complex", "datetime", "timedelta")


def metric_text(value: float) -> str:
    """Return a metric for a log line: 4 significant digits, and no exponent below a trillion."""
    return f"{value:.0f}" if 1e4 <= abs(value) < 1e12 else f"{value:.4g}"


class ValueRefusedError(ValueError):
    """A value that cannot be kept as it is; the message names it."""


def is_number(value: object) -> bool:
    """Whether a value is an integer or a float, and not a boolean."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def text(value: str) -> str:
    r"""Return the text with NUL and lone surrogates, which cannot be stored, replaced by escapes such as `\x00`."""
    plain = str.__str__(value)
    return _UNSTORABLE.sub(lambda found: ascii(found[0])[1:-1], plain)


def shortened(value: str, most: int) -> str:
    """Return the text, without its middle if it has more than `most` characters."""
    if len(value) <= most:
        return value
    half = most // 2
    return f"{value[:half]} … {len(value) - 2 * half} characters left out … {value[-half:]}"


def checked_name(kind: str, name: object) -> str:
    """Return the name of a metric, record or key.

    Raises:
        ValueRefusedError: it is not text, is empty or long, or has characters that cannot be printed.
    """
    if not is_a(name, str):
        raise ValueRefusedError(f"the name of a {kind} is {shown(name)}: use text")
    plain = str.__str__(name)
    if not plain or len(plain) > MOST_NAME or not (plain.isprintable() or is_text(plain)):
        raise ValueRefusedError(
            f"the name of a {kind} is {shortened(plain, 60)!a}: use 1 to {MOST_NAME} printable characters"
        )
    return plain


def named(kind: str, given: Mapping[Any, T]) -> dict[str, T]:
    """Return a mapping with names that are plain text.

    Raises:
        ValueRefusedError: a name cannot be kept, or is given twice.
    """
    named: dict[str, T] = {}
    for name, value in given.items():
        plain = checked_name(kind, name)
        if plain in named:
            raise ValueRefusedError(f"the name of a {kind} is given twice, {plain!a}: use each once")
        named[plain] = value
    return named


def is_a(value: object, kind: type | tuple[type, ...]) -> bool:
    """Whether a value is of a type; unlike `isinstance`, it does not ask the value, which may raise or pretend."""
    return issubclass(type(value), kind)


def type_name(value: object) -> str:
    """Return the name of a value's class, whatever a metaclass of it does."""
    return text(type.__dict__["__name__"].__get__(type(value)))


def guarded(label: str, value: object, remedy: str, convert: Callable[[], T]) -> T:
    """Return what `convert` makes of a value, whose own methods may raise anything.

    Raises:
        ValueRefusedError: it raised; the message names the value by `label`.
    """
    try:
        return convert()
    except (ValueRefusedError, MemoryError):
        raise
    except Exception as exc:
        raise ValueRefusedError(f"{label} is {shown(value)}: {remedy}") from exc


def metrics(reported: Mapping[str, object]) -> dict[str, float]:
    """Return the metrics of an epoch as floats.

    Raises:
        ValueRefusedError: a value is not a single real number, or a name cannot be kept.
    """
    return {name: number(f"the metric {name!a}", value) for name, value in named("metric", reported).items()}


def number(label: str, value: object) -> float:
    """Return a single real number of any library, or the text of one, as a float; `label` names it in the error.

    A list or array may hold it.

    Raises:
        ValueRefusedError: it is none, or too large for a float.
    """
    found = guarded(label, value, "give a single real number, or leave it out", lambda: _float(value))
    if found is None:
        raise ValueRefusedError(f"{label} is beyond the largest float, 1.8e308: scale it, or leave it out")
    return found


def _float(value: object) -> float | None:
    """Return a real number as a float; None if it is too large."""
    try:
        real = _real(value)
        found = float(real)
        return None if math.isinf(found) and bool(real != found) else found
    except OverflowError:
        return None


def _real(value: Any) -> Any:
    # Not the methods of a subclass, which may return another number.
    if is_a(value, int):
        return int.__int__(value)
    if is_a(value, float):
        return float.__float__(value)
    if is_a(value, str):
        return Decimal(shortened(str.strip(value), MOST_NAME))
    if is_a(value, (bytes, bytearray, memoryview)):
        raise TypeError
    if is_a(value, (list, tuple)):
        kind = list if is_a(value, list) else tuple
        (only,) = kind.__iter__(value)
        return _real(only)
    if not hasattr(type(value), "__float__") and hasattr(type(value), "__array__"):
        import numpy as np

        value = np.asarray(value)
    dtype, shape = str(getattr(value, "dtype", "")), tuple(getattr(value, "shape", ()))
    if math.prod(shape) != 1 or any(name in dtype for name in _NO_REAL_NUMBERS):
        raise TypeError
    return _real(_only_item(value)) if shape else value


def _only_item(array: Any) -> Any:
    # Of NumPy, PyTorch and JAX, the latter two on any device; TensorFlow's has none.
    if hasattr(type(array), "item"):
        return array.item()
    import numpy as np

    return np.asarray(array).item()


def shown(value: object) -> str:
    """Return a description of a value whose own text may be long, or raise."""
    if is_a(value, str):
        return f"the text {shortened(str.__str__(value), 40)!a}"
    if type(value) is bool or value is None:
        return str(value)
    # Python does not write numbers of more digits.
    if type(value) is float or (type(value) is int and value.bit_length() < 10_000):
        return f"the number {shortened(str(value), 60)}"
    try:
        shape = tuple(getattr(value, "shape", ()))
        details = ", ".join(
            [*([f"shape {shape}"] if shape else []), *filter(None, [str(getattr(value, "dtype", ""))])]
        )
    except Exception:  # noqa: BLE001 - foreign types raise anything
        details = ""
    return f"of type {type_name(value)}" + (f" ({shortened(text(details), MOST_NAME)})" if details else "")
