"""Values that an objective may hold, and that raise, pretend or never end where they are read."""

from __future__ import annotations

import datetime
import enum
import math
import sys
import weakref
from collections import OrderedDict, UserDict, deque, namedtuple
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np


def fail(*_: object, **__: object) -> Any:
    raise RuntimeError("odd")


def subclass(base: type, *failing: str, **methods: Any) -> Any:
    """Return a subclass of which some methods raise, and others are replaced."""
    return type(f"Odd{base.__name__}", (base,), dict.fromkeys(failing, fail) | methods)


class Color(enum.Enum):
    RED = 1


class Level(enum.IntEnum):
    HIGH = 3


class Kind(enum.StrEnum):
    GOOD = "good"


@dataclass
class Point:
    x: int = 1


Pair = namedtuple("Pair", "first second")


class Nameless(type):
    def __getattribute__(cls, name: str) -> Any:
        return fail() if name in ("__name__", "__qualname__") else super().__getattribute__(name)


class Variable:
    """A variable of another library, such as Keras's."""

    def __init__(self, value: Any, shape: Any = (), dtype: Any = "float32") -> None:
        self.value, self.shape, self.dtype = value, shape, dtype

    def __array__(self, *_: Any, **__: Any) -> Any:
        return self.value


def pretending(kind: type) -> Any:
    """Return an object that claims to be of a type."""
    return type("Pretender", (), {"__class__": kind})()


def nested(levels: int, wrap: Callable[[Any], Any]) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = wrap(value)
    return value


def holding_itself(container: Any) -> Any:
    if isinstance(container, list):
        container.append(container)
    else:
        container["self"] = container
    return container


ODD_TEXT = subclass(str, "__repr__", "__str__", "__eq__", "__format__", "__len__", __hash__=str.__hash__)
OTHER_TEXT = subclass(str, __repr__=lambda _: "x" * 10**6, __str__=lambda _: "\0", __hash__=str.__hash__)
UNLIKE_ANY_TEXT = subclass(str, __eq__=lambda one, other: one is other, __hash__=str.__hash__)
ODD_TEXTS = [OTHER_TEXT, UNLIKE_ANY_TEXT]
"""Kinds of text that can be the names of arguments."""
ODD_INT = subclass(int, "__repr__", "__int__", "__index__", "__float__", "__eq__", __hash__=int.__hash__)
OTHER_INT = subclass(int, __int__=lambda _: 7, __index__=lambda _: 7, __float__=lambda _: 7.0)

ODD: list[Callable[[], Any]] = [
    lambda: ODD_TEXT("a"),
    lambda: OTHER_TEXT("a"),
    lambda: ODD_INT(3),
    lambda: OTHER_INT(3),
    lambda: subclass(float, "__repr__", "__float__", "__eq__", __hash__=float.__hash__)(1.5),
    lambda: subclass(float, __float__=lambda _: math.inf)(1.5),
    lambda: subclass(dict, "items", "keys", "__iter__", "__len__", "__getitem__")(a=1),
    lambda: subclass(dict, items=lambda _: [("a", 1), ("a", 2), (3, 4)])(a=1),
    lambda: subclass(list, "__iter__", "__len__", "__getitem__")([1]),
    lambda: subclass(list, __len__=lambda _: 10**12)([1]),
    lambda: subclass(tuple, "__iter__", "__len__")((1,)),
    lambda: subclass(UserDict, "__getitem__")(a=1),
    lambda: UserDict(a=1),
    lambda: OrderedDict(a=1),
    lambda: Color.RED,
    lambda: Level.HIGH,
    lambda: Kind.GOOD,
    lambda: Point(),
    lambda: Point,
    lambda: Pair(1, 2),
    lambda: Nameless("Odd", (), {})(),
    lambda: pretending(dict),
    lambda: pretending(list),
    lambda: pretending(str),
    lambda: pretending(int),
    lambda: pretending(bool),
    lambda: type("Odd", (), {"__class__": property(fail)})(),
    lambda: type("Odd", (), {"__float__": lambda _: math.nan})(),
    lambda: type("Odd", (), {"__float__": lambda _: "1"})(),
    lambda: Variable(np.ones(2), (2,)),
    lambda: Variable(np.float32(1.0)),
    lambda: Variable("no array"),
    lambda: Variable(np.array(1.0), fail, fail),
    lambda: np.ma.masked,
    lambda: np.ma.array([1.0, 2.0], mask=[True, False]),
    lambda: np.array([1, "a", None], dtype=object),
    lambda: np.array([(1, 2.0)], dtype=[("a", "i4"), ("b", "f8")]),
    lambda: np.longdouble("1e4000"),
    lambda: np.datetime64("NaT"),
    lambda: np.timedelta64(1, "s"),
    lambda: np.void(b"a"),
    lambda: np.str_("a\0b"),
    lambda: np.array(["\ud800"]),
    lambda: np.array([1], dtype=">i4"),
    lambda: np.zeros((0, 3)),
    lambda: np.random.default_rng(1),
    lambda: np.matrix([[1]]),
    lambda: np.uint64(2**64 - 1),
    lambda: nested(30, lambda v: [v]),
    lambda: nested(10**5, lambda v: [v]),
    lambda: nested(5000, lambda v: {"a": v}),
    lambda: holding_itself([1]),
    lambda: holding_itself({"a": 1}),
    lambda: deque([1]),
    lambda: {1},
    lambda: range(10**12),
    lambda: (item for item in range(3)),
    lambda: weakref.ref(Point),
    lambda: datetime.datetime(2026, 1, 1),
    lambda: datetime.timedelta(1),
    lambda: Path("/a"),
    lambda: memoryview(b"ab"),
    lambda: bytearray(b"1"),
    lambda: b"1.5",
    lambda: 10**400,
    lambda: -(10**5000),
    lambda: 2**53 + 1,
    lambda: Decimal("sNaN"),
    lambda: Decimal("1e400"),
    lambda: Fraction(10**400, 3),
    lambda: complex("nan"),
    lambda: "\0",
    lambda: "\ud800" * 1000,
    lambda: "1" * 5000,
    lambda: "a" * 10**7,
    lambda: {1: 2, "1": 3},
    lambda: {None: 1},
    lambda: {Color.RED: 2},
    lambda: {Kind.GOOD: 1, "good": 2},
    lambda: {ODD_TEXT("b"): 1},
    lambda: {OTHER_INT(1): 2},
    lambda: {"\ud800" * 10**6: 1},
    lambda: {(1, 2): 3},
    lambda: ...,
    lambda: NotImplemented,
    lambda: type,
    lambda: len,
    lambda: fail,
    lambda: sys,
    lambda: sys._getframe(),
    lambda: ValueError("a"),
    lambda: KeyboardInterrupt(),
    lambda: sys.float_info.max,
    lambda: 5e-324,
    lambda: -0.0,
]
"""Functions that make such values: each time another one."""


class Wordless(Exception):
    def __str__(self) -> str:
        raise RuntimeError


def chained(error: BaseException, *causes: BaseException) -> BaseException:
    """Return an error with causes; the last one is caused by the first error again."""
    for one, other in zip((error, *causes), (*causes, error), strict=True):
        one.__cause__ = other
    return error


ODD_ERRORS: list[Callable[[], BaseException]] = [
    Wordless,
    lambda: ValueError(ODD_TEXT("a")),
    lambda: KeyError(ODD_TEXT("a")),
    lambda: SystemExit(ODD_TEXT("a")),
    lambda: ValueError(OTHER_TEXT("a"), ODD_INT(1)),
    lambda: ValueError("\ud800\0\x1b[31m" * 10**5),
    lambda: chained(ValueError("a"), Wordless()),
    lambda: chained(ValueError("a")),
    lambda: ExceptionGroup("group", [Wordless(), ValueError("a")]),
    lambda: BaseExceptionGroup("group", [KeyboardInterrupt()]),
    lambda: UnicodeDecodeError("utf-8", b"\xff", 0, 1, "\ud800"),
    lambda: subclass(ValueError, "__str__", "__repr__", "__reduce__", args=property(fail))("a"),
    lambda: Nameless("Odd", (ValueError,), {})("a"),
    lambda: type("Odd \x1b[31m", (ValueError,), {"__module__": ODD_TEXT("m")})("a"),
    lambda: subclass(ValueError, __notes__=5)("a"),
    lambda: subclass(ValueError, __class__=property(fail))("a"),
    lambda: OSError(ODD_INT(28), "No space left on device"),
    lambda: subclass(OSError, errno=ODD_INT(28), strerror=ODD_TEXT("a"))(),
    lambda: subclass(MemoryError, "__str__")(),
    RecursionError,
    StopIteration,
    StopAsyncIteration,
    BrokenPipeError,
    GeneratorExit,
]
