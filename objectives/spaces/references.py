"""Classes, functions and members of enums as values of parameters: a study stores their names, never the objects.

A name is stored as `{"__object__": "keras.activations.relu"}`, so no string is taken for one. The object itself is
found again among the choices that the code declares.
"""

from __future__ import annotations

import functools
import importlib
import json
import re
import sys
from collections.abc import Iterator
from enum import Enum
from operator import attrgetter
from typing import Any

from objectives.literals import is_literal

KEY = "__object__"

_MAIN = ("__main__", "__mp_main__")
_OF_FILE = re.compile(r"^hpo\.user_code\.[^.]+\.")
"""Beginning of the name of a module of a folder that is not on the import path; its place must not matter."""


def reference(value: Any) -> dict[str, str]:
    """Return the stored form of a class, a function or a member of an enum.

    Raises:
        ValueError: it has no name by which it is found again; the message is a noun phrase that describes it.
    """
    return {KEY: _name(value)}


def is_reference(value: object) -> bool:
    """Whether a stored value is the name of an object."""
    return type(value) is dict and len(value) == 1 and type(value.get(KEY)) is str


def full_name(value: Any) -> str:
    """Return the qualified name of a stored object."""
    name: str = value[KEY]
    return name


def with_objects(value: Any) -> Any:
    """Return a stored value with the objects in it whose modules are imported, and the names of the others."""
    if is_reference(value):
        parts = full_name(value).split(".")
        places = (
            (".".join(parts[:count]), ".".join(parts[count:])) for count in range(len(parts) - 1, 0, -1)
        )
        found = next((found for place in places if (found := _at(*place)) is not None), None)
        return with_short_names(value) if found is None else found
    if type(value) is list:
        return [with_objects(item) for item in value]
    if type(value) is dict:
        return {key: with_objects(item) for key, item in value.items()}
    return value


def with_short_names(value: Any) -> Any:
    """Return a stored value for display: each object in it has the last part of its name."""
    if is_reference(value):
        return _Name(full_name(value).rpartition(".")[2])
    if type(value) is list:
        return [with_short_names(item) for item in value]
    if type(value) is dict:
        return {key: with_short_names(item) for key, item in value.items()}
    return value


def shown(value: Any) -> str:
    """Return a short text of a stored value on one line; objects have their short names.

    A string that would be read as another value, such as "1", or that looks like a missing value, is in quotes.
    """
    text = str(with_short_names(value))
    if not text.isprintable():
        return repr(value)
    quoted = type(value) is str and (value == "-" or is_literal(value))
    return json.dumps(value, ensure_ascii=False) if quoted else text


class _Name(str):
    """A name that is shown without quotes, within lists and dicts too."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def _name(value: Any) -> str:
    if isinstance(value, Enum):
        if not isinstance(value.name, str) or type(value).__members__.get(value.name) is not value:
            raise ValueError(f"a value of {type(value).__qualname__} without a name of its own")
        return f"{_name(type(value))}.{value.name}"
    kind = "class" if isinstance(value, type) else "function"
    qualified = getattr(value, "__qualname__", None) or getattr(value, "__name__", None)
    module = getattr(value, "__module__", None) or ("numpy" if type(value).__module__ == "numpy" else None)
    if not callable(value) or type(qualified) is not str or type(module) is not str:
        raise ValueError(f"an object of type {type(value).__qualname__}")
    if "<lambda>" in qualified:
        raise ValueError("a lambda, which has no name")
    if "<locals>" in qualified:
        raise ValueError(f"a {kind} defined inside a function, where no name leads to it")
    found = _at(module, qualified)
    if found is not value and not (found is None and module in (*_MAIN, *_unloaded(module))):
        raise ValueError(f"a {kind} to which its name {module}.{qualified} does not lead")
    return f"{_OF_FILE.sub('', _public(module, qualified))}.{qualified}"


def _unloaded(module: str) -> tuple[str, ...]:
    """Return the module's name if it is not loaded: its objects came from another process by value."""
    return () if module in sys.modules else (module,)


def _at(module: str, qualified: str) -> object | None:
    try:
        return attrgetter(qualified)(sys.modules.get(module))  # type: ignore[no-any-return]
    except AttributeError:
        return None


@functools.cache
def _public(module: str, qualified: str) -> str:
    """Return the shortest module above a module that has the same object without private parts in its path.

    The path of a package's own files, such as `keras.src.activations.activations`, changes between its versions.
    """
    value = _at(module, qualified)
    for candidate in _above(module):
        try:
            importlib.import_module(candidate)
        # Packages may raise anything.
        except Exception:  # noqa: BLE001
            continue
        if value is not None and _at(candidate, qualified) is value:
            return candidate
    return module


def _above(module: str) -> Iterator[str]:
    parts = [part for part in module.split(".") if not part.startswith("_") and part not in ("src", "python")]
    for count in range(1, len(parts) + 1):
        found = ".".join(parts[:count])
        if found != module:
            yield found
