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
import re
import sys
import textwrap
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from functools import partial, partialmethod
from pathlib import Path
from types import (
    CodeType,
    FunctionType,
    GetSetDescriptorType,
    MemberDescriptorType,
    MethodType,
    ModuleType,
)
from typing import Any

from hpo.python.fingerprint import DIGITS, PLAIN, Fingerprints
from hpo.python.modules import imported_names, own_file, own_module
from hpo.python.pickling import is_importable
from objectives import code

LONGEST = 200
"""Characters of a value that is written as it is."""

_DESCRIPTORS = (GetSetDescriptorType, MemberDescriptorType)
"""Attributes of a class that Python makes for its instances."""


class Source:
    """Everything that some objects use, found by following their code."""

    def __init__(self, objects: Mapping[str, Any]) -> None:
        self.values: dict[str, Any] = {}
        """Values that are used, by a name for messages."""
        self.folders: dict[Path, None] = {}
        """Folders of the user's modules that are used."""
        self.names: set[str] = set()
        """Names of global variables that functions read."""
        self._imports: dict[str, None] = {}
        self._assigned: dict[str, None] = {}
        self._defined: dict[str, None] = {}
        self._seen: set[int] = set()
        # Alive, so that no other object gets the id of one that was seen.
        self._alive: list[Any] = []
        self._fingerprints = Fingerprints(self._found_in_value)
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
        elif is_importable(value):
            line = f"from {value.__module__} import {value.__qualname__.partition('.')[0]}"
            self._add_import(line, name, value.__qualname__, sys.modules[value.__module__])
        elif isinstance(value, FunctionType | MethodType | type):
            self._define(name, value)
        else:
            self.values.setdefault(name, value)
            self._assigned[f"{name} = {self._written(value)}"] = None

    def _add_import(self, line: str, name: str, original: str, module: ModuleType) -> None:
        line = line if name == original else f"{line} as {name}" if name.isidentifier() else line
        path = own_file(module)
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
        if not is_importable(type(value)):
            self._left.append((type(value).__name__, type(value)))
        for attribute, member in vars(value).items():
            functions = _functions_of(member)
            for function in functions:
                # Decorators, such as that of dataclasses, add functions of other modules.
                if function.__globals__.get("__name__") == value.__module__:
                    self._follow_function(function)
                    if _is_from_elsewhere(function, value):
                        self._left.append((function.__name__, function))
            if functions or attribute.startswith("__") or attribute == "_abc_impl":
                continue
            if isinstance(member, type) and not is_importable(member):
                self._left.append((attribute, member))
            elif not isinstance(member, _DESCRIPTORS):
                self._assigned[f"# {name}.{attribute}: {self._written(member)}"] = None

    def _follow_function(self, function: FunctionType) -> None:
        for name in _global_names(function.__code__):
            if name in function.__globals__:
                self.names.add(name)
                self._left.append((name, function.__globals__[name]))
        self._follow_imports(function)
        for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
            # A cell without a value has not been assigned yet.
            with suppress(ValueError):
                if name != "__class__":
                    self._left.append((name, cell.cell_contents))
        defaults = (*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values())
        if any(default is not None for default in defaults):
            self._assigned[f"# defaults of {function.__qualname__}: {self._written(defaults)}"] = None
        if vars(function):
            self._assigned[f"# attributes of {function.__qualname__}: {self._written(vars(function))}"] = None

    def _follow_imports(self, function: FunctionType) -> None:
        """Add the user's modules that a function imports when it runs, or uses as attributes of their package."""
        imported, used = imported_names(function.__code__)
        globals_ = [found for name in used if isinstance(found := function.__globals__.get(name), ModuleType)]
        for module in globals_:
            package = f"{module.__name__}."
            imported |= {
                name
                for name in sys.modules
                if name.startswith(package) and set(name.removeprefix(package).split(".")) <= used
            }
        for name in sorted(imported):
            found = own_module(name)
            if found is not None:
                root, path = found
                self.folders[root] = None
                if path is not None:
                    self._imports[f"import {name}  # code {code.digest(str(path))}"] = None

    def _written(self, value: Any) -> str:
        if _is_plain(value) and len(repr(value)) <= LONGEST:
            return repr(value)
        shape = getattr(value, "shape", None)
        kind = f"{type(value).__name__}{f' of shape {shape}' if isinstance(shape, tuple) else ''}"
        return f"...  # {kind}, sha256 {self._fingerprints.of(value)}"

    def _found_in_value(self, value: Any) -> None:
        module = value if isinstance(value, ModuleType) else sys.modules.get(value.__module__)
        if not is_importable(value) or own_file(module) is not None:
            self._left.append((value.__name__, value))


def _is_plain(value: Any, levels: int = 4) -> bool:
    """Return whether the text of a value is the value; one with more levels may hold itself."""
    if type(value) in (list, tuple, dict):
        members = (*value, *value.values()) if isinstance(value, dict) else value
        return (
            levels > 0 and len(value) <= LONGEST and all(_is_plain(member, levels - 1) for member in members)
        )
    return type(value) in PLAIN


def _global_names(function: CodeType) -> list[str]:
    """Return the global names that the code of a function and of the functions in it reads."""
    names = [found.argval for found in dis.get_instructions(function) if found.opname == "LOAD_GLOBAL"]
    for constant in function.co_consts:
        if isinstance(constant, CodeType):
            names += _global_names(constant)
            # The body of a class reads names otherwise.
            names += [found.argval for found in dis.get_instructions(constant) if found.opname == "LOAD_NAME"]
    return list(dict.fromkeys(names))


def _functions_of(member: Any) -> list[FunctionType]:
    """Return the functions that an attribute of a class is, or wraps as a method or property."""
    wrapped = (
        member,
        *(getattr(member, name, None) for name in ("__func__", "func", "fget", "fset", "fdel")),
    )
    if isinstance(member, partial | partialmethod):
        return []
    return [found for found in wrapped if isinstance(found, FunctionType)]


def _is_from_elsewhere(function: FunctionType, cls: type) -> bool:
    """Return whether the source of a class does not hold the function, such as that of a decorator."""
    made = function.__code__.co_filename == "<string>"
    return not made and not function.__code__.co_qualname.startswith(f"{cls.__qualname__}.")


def _identifier(name: str) -> str:
    return name if name.isidentifier() else "_" + re.sub(r"\W", "", name)


def _source_of(name: str, value: Any) -> str:
    """Return the source of a function or class, as comments if it does not stand alone."""
    text = None
    if getattr(value, "__name__", "") != "<lambda>":
        with suppress(OSError, TypeError, SyntaxError, ValueError, IndexError):
            # That of the code: a function's own is that of the function that it wraps.
            found = _class_source(value) if isinstance(value, type) else inspect.getsource(value.__code__)
            text = textwrap.dedent(found)
    if text is None:
        return f"{_identifier(name)} = ...  # without source, code {_code_digest(value)}"
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
    for function in (found for member in vars(cls).values() for found in _functions_of(member)):
        if not _is_from_elsewhere(function, cls):
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
    for function in (function for member in members for function in _functions_of(member)):
        found.update(repr(_plain_code(function.__code__)).encode())
    if isinstance(value, type):
        found.update(repr(sorted(getattr(value, "__annotations__", {}).items(), key=str)).encode())
    return found.hexdigest()[:DIGITS]


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
