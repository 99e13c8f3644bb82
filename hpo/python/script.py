"""A script that is run: whether an import of it, as trials import it, defines the same objective."""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from hpo.python.source import Source

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def defines(path: Path, objective: Any) -> bool:
    """Return whether an import of a script that is run defines a function or class of it as it is now.

    It does not where the main block defines it, or sets a variable that it uses.
    """
    try:
        lines, first = inspect.getsourcelines(objective)
        file = inspect.getsourcefile(objective)
        body = ast.parse(path.read_bytes()).body
    except (OSError, TypeError, SyntaxError, ValueError):
        return False
    main = [node for node in body if isinstance(node, ast.If) and "__main__" in ast.unparse(node.test)]
    inside = any(node.lineno <= first <= (node.end_lineno or first) for node in main)
    if not lines or file is None or Path(file).resolve() != path.resolve() or inside:
        return False
    changed = _changed(main, body)
    return not (changed and changed & {objective.__name__, *Source({"": objective}).names})


def _changed(main: list[ast.If], body: list[ast.stmt]) -> set[str]:
    """Return the global variables that the main block, and the functions that it calls, set or change."""
    run: list[ast.AST] = [*main]
    functions = {node.name: node for node in body if isinstance(node, _FUNCTIONS)}
    found: set[str] = set()
    while run:
        node = run.pop()
        found |= set(_set_names(node))
        for call in ast.walk(node):
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Name):
                called = functions.pop(call.func.id, None)
                run += [called] if called is not None else []
    return {name for name in found if not _is_as_imported(name, body)}


def _set_names(block: ast.AST) -> Iterator[str]:
    """Yield the global names that a block or function binds, or whose value it may change."""
    within = list(ast.walk(block))
    bound = {node.id for node in within if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    if isinstance(block, _FUNCTIONS):
        declared = {name for node in within if isinstance(node, ast.Global) for name in node.names}
        local = (bound - declared) | {node.arg for node in within if isinstance(node, ast.arg)}
        yield from declared
    else:
        local = set()
        yield from bound
        yield from (node.name for node in within if isinstance(node, (*_FUNCTIONS, ast.ClassDef)))
        names = [
            alias for node in within if isinstance(node, ast.Import | ast.ImportFrom) for alias in node.names
        ]
        yield from (alias.asname or alias.name.partition(".")[0] for alias in names)
    for node in within:
        base: ast.AST | None = None
        if isinstance(node, ast.Attribute | ast.Subscript) and isinstance(node.ctx, ast.Store):
            base = node.value
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            # Such as `config.update(epochs=3)`.
            base = node.value.func.value if isinstance(node.value.func, ast.Attribute) else None
        while isinstance(base, ast.Attribute | ast.Subscript):
            base = base.value
        if isinstance(base, ast.Name) and base.id not in local:
            yield base.id


def _is_as_imported(name: str, body: list[ast.stmt]) -> bool:
    """Return whether a variable of the script that is run is a module, or still the constant that an import sets."""
    value = vars(sys.modules["__main__"]).get(name)
    if isinstance(value, ModuleType):
        return True
    constants = [
        node.value.value
        for node in body
        if isinstance(node, ast.Assign)
        and isinstance(node.value, ast.Constant)
        and any(isinstance(target, ast.Name) and target.id == name for target in node.targets)
    ]
    return bool(constants) and type(constants[-1]) is type(value) and constants[-1] == value
