"""Modules of the user's that an objective of a notebook imports."""

from __future__ import annotations

import dis
import importlib.util
from pathlib import Path
from types import CodeType, ModuleType

from objectives import code


def own_file(module: ModuleType | None) -> Path | None:
    """Return the file of a module of the user's, which may change; installed ones have a version."""
    path = Path(getattr(module, "__file__", None) or "").resolve()
    return path if path.suffix == ".py" and not code.is_foreign(path, Path()) else None


def own_module(name: str) -> tuple[Path, Path | None] | None:
    """Return the folder from which a module of the user's is imported, and its file if it has one."""
    first, *rest = name.split(".")
    try:
        spec = importlib.util.find_spec(first)
    except (ImportError, ValueError, AttributeError):
        return None
    # A folder without __init__.py is a package without a file.
    place = next(iter(spec.submodule_search_locations or ()), spec.origin) if spec is not None else None
    if place is None or not Path(place).exists():
        return None
    path = Path(place).resolve()
    if code.is_foreign(path, Path()):
        return None
    module = path.joinpath(*rest) if path.is_dir() else path
    files = (module, module / "__init__.py", module.with_name(f"{module.name}.py"))
    return path.parent, next((file for file in files if file.is_file() and file.suffix == ".py"), None)


def imported_names(function: CodeType) -> tuple[set[str], set[str]]:
    """Return the modules that the code of a function and of the functions in it imports, and all names that it uses."""
    imported = {found.argval for found in dis.get_instructions(function) if found.opname == "IMPORT_NAME"}
    used = set(function.co_names)
    for constant in function.co_consts:
        if isinstance(constant, CodeType):
            within = imported_names(constant)
            imported |= within[0]
            used |= within[1]
    return imported, used
