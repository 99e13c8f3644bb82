"""Holders of the variables that a data function may set: modules, classes, functions, and the parts of a callable."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import CellType, FunctionType, MethodType, ModuleType
from typing import Any

MOST_PARTS = 100

Place = tuple[str, str]
"""Name of a module, and of a class or function in it, empty for the module's own variables.

Without a module: the number of a part of the callable, or empty for the variables of a notebook.
"""


@dataclass(frozen=True)
class Holder:
    """Variables in one place."""

    place: Place
    variables: Mapping[str, Any]
    set: Callable[[str, Any], None]
    """Sets a variable to another object."""


class FixedError(Exception):
    """A variable cannot be set to another object."""


def of_module(name: str, module: ModuleType) -> Iterator[Holder]:
    """Yield the holders of a module: itself, and the classes and functions that it defines."""
    yield Holder((name, ""), vars(module), partial(setattr, module))
    pending = [("", vars(module))]
    while pending:
        parent, variables = pending.pop()
        for attribute, value in list(variables.items()):
            if not isinstance(value, type | FunctionType) or value.__module__ != module.__name__:
                continue
            path = f"{parent}.{attribute}" if parent else attribute
            yield Holder((name, path), dict(vars(value)), partial(setattr, value))
            # By its qualified name, each class is defined in one other at most.
            if isinstance(value, type) and value.__qualname__ == path:
                pending.append((path, dict(vars(value))))


def parts_of(function: Callable[[], Any]) -> list[Any]:
    """Return the objects that a callable consists of: those in partials, methods, decorators and closures."""
    found: list[Any] = []
    pending: list[Any] = [function]
    while pending and len(found) < MOST_PARTS:
        part = pending.pop(0)
        if any(part is other for other in found):
            continue
        found.append(part)
        inner = variables_of(part).values() if isinstance(part, partial | MethodType | FunctionType) else ()
        pending += [value for value in inner if callable(value) and not isinstance(value, type)]
        pending += [
            one for name in ("func", "__func__", "__wrapped__") if callable(one := getattr(part, name, None))
        ]
    return found


def of_callable(parts: Sequence[Any]) -> Iterator[Holder]:
    """Yield the holders of variables that only a callable has: arguments, instances of methods, closures."""
    for number, part in enumerate(parts):
        if isinstance(part, FunctionType):
            cells = _cells(part)
            yield Holder(("", str(number)), variables_of(part), partial(_set_cell, cells))
        else:
            yield Holder(("", str(number)), variables_of(part), _refuse)


def variables_of(part: Any) -> dict[str, Any]:
    """Return the objects that a part of a callable holds, by name."""
    if isinstance(part, partial):
        return {str(number): value for number, value in enumerate(part.args)} | part.keywords
    if isinstance(part, MethodType):
        return {type(part.__self__).__name__: part.__self__}
    if isinstance(part, FunctionType):
        return {name: cell.cell_contents for name, cell in _cells(part).items() if not _is_empty(cell)}
    return {type(part).__name__: part}


def _cells(function: FunctionType) -> dict[str, CellType]:
    return dict(zip(function.__code__.co_freevars, function.__closure__ or (), strict=False))


def _is_empty(cell: CellType) -> bool:
    try:
        cell.cell_contents  # noqa: B018 - it raises if there is none
    except ValueError:
        return True
    return False


def _set_cell(cells: Mapping[str, CellType], name: str, value: Any) -> None:
    cells[name].cell_contents = value


def _refuse(name: str, _: Any) -> None:
    raise FixedError(name)
