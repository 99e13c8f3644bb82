"""The source of an objective that was defined in a notebook, with all that it uses, as text.

The text is there for you to read, and its digest tells whether the objective has changed: it holds the source of
functions and classes, the imports, and the values that they use.
"""

from __future__ import annotations

import ast
import dis
import hashlib
import inspect
import linecache
import pickle
import sys
import textwrap
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np

from objectives import code

LONGEST = 200
"""Characters of a value that is written as it is."""

_DIGITS = 16
_PLAIN = (type(None), bool, int, float, complex, str, bytes)


class Source:
    """Everything that some objects use, found by following their code."""

    def __init__(self, objects: Mapping[str, Any]) -> None:
        self.values: dict[str, Any] = {}
        """Values that are used, by a name for messages."""
        self.folders: dict[Path, None] = {}
        """Folders of the user's modules that are used."""
        self._imports: dict[str, None] = {}
        self._assigned: dict[str, None] = {}
        self._defined: dict[str, None] = {}
        self._seen: set[int] = set()
        # Alive, so that no other object gets the id of one that was seen.
        self._alive: list[Any] = []
        self._left = deque(objects.items())
        while self._left:
            self._add(*self._left.popleft())

    @property
    def text(self) -> str:
        """The source as a Python file that can be parsed."""
        parts = ["\n".join(sorted(self._imports)), "\n".join(self._assigned), *reversed(self._defined)]
        return "\n\n".join(filter(None, parts)) + "\n"

    def _add(self, name: str, value: Any) -> None:
        if isinstance(value, ModuleType):
            self._add_import(f"import {value.__name__}", name, value.__name__, value)
        elif _is_importable(value):
            line = f"from {value.__module__} import {value.__qualname__.partition('.')[0]}"
            self._add_import(line, name, value.__qualname__, sys.modules[value.__module__])
        elif isinstance(value, FunctionType | MethodType | type):
            self._define(name, value)
        else:
            self.values.setdefault(name, value)
            self._assigned[f"{name} = {self._written(value)}"] = None

    def _add_import(self, line: str, name: str, original: str, module: ModuleType) -> None:
        line = line if name == original else f"{line} as {name}" if name.isidentifier() else line
        path = _own_file(module)
        if path is not None:
            self.folders[path.parents[module.__name__.count(".") + (path.name == "__init__.py")]] = None
            line += f"  # code {code.digest(str(path))}"
        self._imports[line] = None

    def _define(self, name: str, value: Any) -> None:
        """Add the source of a function or class, and follow all that it uses."""
        if isinstance(value, MethodType):
            self._left.append((name, value.__func__))
            self._left.append((f"{name}_self", value.__self__))
            return
        if id(value) in self._seen:
            return
        self._seen.add(id(value))
        self._alive.append(value)
        self._defined[_source_of(name, value)] = None
        if isinstance(value, type):
            self._follow_class(name, value)
        else:
            self._follow_function(value)

    def _follow_class(self, name: str, value: type) -> None:
        self._left += [(base.__name__, base) for base in value.__bases__ if base is not object]
        for attribute, member in vars(value).items():
            function = getattr(member, "__func__", getattr(member, "fget", member))
            if isinstance(function, FunctionType):
                # Decorators, such as that of dataclasses, add functions of other modules.
                if function.__globals__.get("__name__") == value.__module__:
                    self._follow_function(function)
            elif not (attribute.startswith("__") or inspect.isdatadescriptor(member) or callable(member)):
                self._assigned[f"# {name}.{attribute}: {self._written(member)}"] = None

    def _follow_function(self, function: FunctionType) -> None:
        for name in _global_names(function.__code__):
            if name in function.__globals__:
                self._left.append((name, function.__globals__[name]))
        for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
            # A cell without a value has not been assigned yet.
            with suppress(ValueError):
                if name != "__class__":
                    self._left.append((name, cell.cell_contents))
        defaults = (*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values())
        if any(default is not None for default in defaults):
            self._assigned[f"# defaults of {function.__qualname__}: {self._written(defaults)}"] = None

    def _written(self, value: Any) -> str:
        if _is_plain(value) and len(repr(value)) <= LONGEST:
            return repr(value)
        shape = getattr(value, "shape", None)
        kind = f"{type(value).__name__}{f' of shape {shape}' if isinstance(shape, tuple) else ''}"
        return f"...  # {kind}, sha256 {self._fingerprint(value)}"

    def _fingerprint(self, value: Any) -> str:
        found = hashlib.sha256()
        for part in self._parts(value, set()):
            found.update(b"%d:" % len(part))
            found.update(part)
        return found.hexdigest()[:_DIGITS]

    def _parts(self, value: Any, within: set[int]) -> Iterator[bytes | memoryview]:
        """Yield bytes that are the same in another process if the value is."""
        yield type(value).__qualname__.encode()
        if isinstance(value, _PLAIN):
            yield repr(value).encode()
            return
        if id(value) in within:
            return
        within = within | {id(value)}
        if isinstance(value, np.ndarray) and value.dtype != object:
            yield f"{value.dtype} {value.shape}".encode()
            yield np.ascontiguousarray(value).reshape(-1).view(np.uint8).data
        elif isinstance(value, ModuleType | FunctionType | MethodType | type):
            module = value if isinstance(value, ModuleType) else sys.modules.get(value.__module__)
            yield f"{getattr(module, '__name__', '')}.{getattr(value, '__qualname__', '')}".encode()
            if not _is_importable(value) or _own_file(module) is not None:
                self._left.append((value.__name__, value))
        elif isinstance(value, Mapping):
            for key, member in value.items():
                yield from self._parts(key, within)
                yield from self._parts(member, within)
        elif isinstance(value, list | tuple):
            for member in value:
                yield from self._parts(member, within)
        elif isinstance(value, set | frozenset):
            yield from (digest.encode() for digest in sorted(map(self._fingerprint, value)))
        else:
            yield from self._parts_of_object(value, within)

    def _parts_of_object(self, value: Any, within: set[int]) -> Iterator[bytes | memoryview]:
        if not _is_importable(type(value)):
            self._left.append((type(value).__name__, type(value)))
            yield from self._parts(getattr(value, "__dict__", {}), within)
        # Others fail when they are carried to the trials, with the reason.
        with suppress(Exception):
            reduced = value.__reduce_ex__(pickle.DEFAULT_PROTOCOL)
            if isinstance(reduced, tuple):
                reduced = [list(part) if hasattr(part, "__next__") else part for part in reduced]
            yield from self._parts(reduced, within)


def _own_file(module: ModuleType | None) -> Path | None:
    """Return the file of a module of the user's, which may change; installed ones have a version."""
    path = Path(getattr(module, "__file__", None) or "").resolve()
    return path if path.suffix == ".py" and not code.is_foreign(path, Path()) else None


def _is_plain(value: Any, levels: int = 4) -> bool:
    """Return whether the text of a value is the value; one with more levels may hold itself."""
    if type(value) in (list, tuple, dict):
        members = (*value, *value.values()) if isinstance(value, dict) else value
        return (
            levels > 0 and len(value) <= LONGEST and all(_is_plain(member, levels - 1) for member in members)
        )
    return type(value) in _PLAIN


def _is_importable(value: Any) -> bool:
    """Return whether other processes find a module, or a function or class in its module."""
    if isinstance(value, ModuleType):
        return True
    module, qualname = getattr(value, "__module__", None), getattr(value, "__qualname__", None)
    if not isinstance(module, str) or not isinstance(qualname, str) or module == "__main__":
        return False
    found: Any = sys.modules.get(module)
    for part in qualname.split("."):
        found = getattr(found, part, None)
    return found is value


def _global_names(function: CodeType) -> list[str]:
    """Return the global names that the code of a function and of the functions in it reads."""
    names = [found.argval for found in dis.get_instructions(function) if found.opname == "LOAD_GLOBAL"]
    for constant in function.co_consts:
        if isinstance(constant, CodeType):
            names += _global_names(constant)
            # The body of a class reads names otherwise.
            names += [found.argval for found in dis.get_instructions(constant) if found.opname == "LOAD_NAME"]
    return list(dict.fromkeys(names))


def _source_of(name: str, value: Any) -> str:
    """Return the source of a function or class, as comments if it does not stand alone."""
    text = None
    if getattr(value, "__name__", "") != "<lambda>":
        with suppress(OSError, TypeError, SyntaxError, ValueError, IndexError):
            text = textwrap.dedent(
                _class_source(value) if isinstance(value, type) else inspect.getsource(value)
            )
    if text is None:
        return f"{name} = ...  # without source, code {_code_digest(value)}"
    try:
        ast.parse(text)
    except (SyntaxError, ValueError):
        text = "\n".join(f"# {line}" for line in text.splitlines())
    return text.rstrip()


def _class_source(cls: type) -> str:
    """Return the source of a class, which in a notebook is found through its methods only.

    Raises:
        OSError: there is none.
    """
    functions = [getattr(member, "__func__", member) for member in vars(cls).values()]
    for function in functions:
        if isinstance(function, FunctionType) and function.__qualname__.startswith(f"{cls.__qualname__}."):
            lines = linecache.getlines(function.__code__.co_filename)
            line = function.__code__.co_firstlineno
            around = [
                node
                for node in ast.walk(ast.parse("".join(lines)))
                if isinstance(node, ast.ClassDef)
                and node.name == cls.__name__
                and node.lineno <= line <= (node.end_lineno or line)
            ]
            if around:
                first = min([around[-1].lineno, *(node.lineno for node in around[-1].decorator_list)])
                return "".join(lines[first - 1 : around[-1].end_lineno])
    return inspect.getsource(cls)


def _code_digest(value: Any) -> str:
    """Return a digest of the code of a function, or of all functions of a class, without the places in their files."""
    found = hashlib.sha256()
    members = vars(value).values() if isinstance(value, type) else [value]
    for member in members:
        function = getattr(member, "__func__", member)
        if isinstance(function, FunctionType):
            found.update(repr(_plain_code(function.__code__)).encode())
    if isinstance(value, type):
        found.update(repr(sorted(getattr(value, "__annotations__", {}).items(), key=str)).encode())
    return found.hexdigest()[:_DIGITS]


def _plain_code(function: CodeType) -> tuple[Any, ...]:
    constants = [
        _plain_code(constant)
        if isinstance(constant, CodeType)
        # The order of a set differs between processes.
        else sorted(map(repr, constant))
        if isinstance(constant, frozenset)
        else constant
        for constant in function.co_consts
    ]
    return (function.co_code, constants, function.co_names, function.co_varnames, function.co_freevars)
