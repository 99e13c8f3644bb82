"""The code of an objective: its digest, to detect that it differs between trials, launches and hosts, and its imports.

It is the objective's file and the modules next to it that it imports, those that functions import included.
Installed packages are not covered: their versions are recorded by themselves.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import os
import sysconfig
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from hpo import user_code

DIGITS = 12
"""Hexadecimal digits of a digest."""

HARMLESS_VARIABLES = ("TF_CPP_MIN_LOG_LEVEL",)
"""Variables that change only the output that a library prints."""

_SERVICE = tuple(Path(__file__).resolve().parents[1] / name for name in ("hpo", "objectives", "storage"))
"""Folders of hpo-service, which has a version of its own."""
_INSTALLED = tuple(Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "purelib", "platlib"))


def digest(source: str) -> str:
    """Return the first `DIGITS` digits of the SHA-256 of the code of `path/to/file.py` or `package.module`.

    The ends of lines do not count, because version control may change them.
    """
    found = hashlib.sha256()
    for name, path in sorted(files(source).items()):
        content = path.read_bytes().replace(b"\r\n", b"\n")
        found.update(f"{name} {len(content)}\n".encode() + content)
    return found.hexdigest()[:DIGITS]


def imports(source: str) -> list[str]:
    """Return the dotted names that the code imports anywhere, those in functions included; some name no module."""
    folder = _modules(source)[0]
    found = files(source).values()
    return list(dict.fromkeys(module for path in found for module in _imported(path, folder.root)))


def sets_environment(source: str) -> bool:
    """Return whether a function in the code may set environment variables, except harmless ones."""
    functions = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
    trees = (ast.parse(path.read_bytes()) for path in files(source).values())
    found = (node for tree in trees for node in ast.walk(tree) if isinstance(node, functions))
    return any(map(_sets_environment, found))


def files(source: str) -> dict[str, Path]:
    """Return the files of an objective's code by their names relative to the folder that they are imported from."""
    modules, first = _modules(source)
    return modules.follow(first)


def _modules(source: str) -> tuple[_Modules, list[Path]]:
    """Return the modules that count as the code of an objective, and the files that its own import runs."""
    if source.endswith(".py"):
        path = Path(source).resolve()
        root = user_code.package_root(path)
        packages = path.relative_to(root).parts[:-1]
        modules = _Modules(path.parent, root, packages[0] if packages and root in _INSTALLED else "")
        return modules, [path, *modules.files(".".join(packages))]
    spec = importlib.util.find_spec(source)
    if spec is None or spec.origin is None:
        return _Modules(Path(), Path()), []
    path, package = Path(spec.origin).resolve(), source.partition(".")[0]
    root = path.parents[source.count(".") + (path.name == "__init__.py")]
    modules = _Modules(root, root, package if root in _INSTALLED else "")
    return modules, [path, *modules.files(source)]


@dataclass(frozen=True)
class _Modules:
    """The modules of a folder that import one another."""

    folder: Path
    """Folder of an objective's file, whose modules can be imported without their package."""
    root: Path
    """Folder of its outermost package."""
    package: str = ""
    """Package whose modules count; empty: all modules below the folders."""

    def follow(self, left: list[Path]) -> dict[str, Path]:
        """Return the files, the modules that they import, and so on, by relative name."""
        found: dict[str, Path] = {}
        while left:
            path = left.pop()
            name = path.name
            if path.is_relative_to(self.root):
                name = Path(os.path.relpath(path, self.folder)).as_posix()
            if name not in found:
                found[name] = path
                left += [other for module in _imported(path, self.root) for other in self.files(module)]
        return found

    def files(self, module: str) -> Iterator[Path]:
        """Yield the files that the import of a dotted name runs, as far as they are the user's."""
        parts = module.split(".")
        if self.package and parts[0] != self.package:
            return
        for folder in dict.fromkeys([self.folder, self.root]):
            for count in range(1, len(parts) + 1):
                base = folder.joinpath(*parts[:count])
                for path in (base / "__init__.py", base.with_name(f"{base.name}.py")):
                    if (
                        path.is_file()
                        and not is_foreign(path.resolve(), self.root)
                        and not self._is_mark(path)
                    ):
                        yield path.resolve()
                        break

    def _is_mark(self, path: Path) -> bool:
        """Return whether a file only marks the folder of the objective, or one above it, as a package."""
        around = self.folder != self.root and self.folder.is_relative_to(path.parent)
        return around and path.name == "__init__.py" and not path.stat().st_size


def is_foreign(path: Path, root: Path) -> bool:
    """Whether a file is of hpo-service, or of packages that are installed below the objective's folder."""
    folders = (*_SERVICE, *(folder for folder in _INSTALLED if folder != root))
    return any(path.is_relative_to(folder) for folder in folders)


def _imported(path: Path, root: Path) -> Iterator[str]:
    """Yield the dotted names that a file imports anywhere, and that it gives `import_module` as text."""
    package = path.parent.relative_to(root).parts if path.is_relative_to(root) else ()
    # A file that does not compile is imported by nothing that runs.
    with suppress(SyntaxError, ValueError, OSError, RecursionError):
        for node in ast.walk(ast.parse(path.read_bytes())):
            match node:
                case ast.Import(names=names):
                    yield from (alias.name for alias in names)
                case ast.ImportFrom(module=module, names=names, level=level):
                    parent = package[: len(package) - level + 1] if level else ()
                    base = ".".join([*parent, *([module] if module else [])])
                    yield from ([base] if base else [])
                    yield from (f"{base}.{alias.name}".strip(".") for alias in names if alias.name != "*")
                case ast.Call(
                    func=ast.Name(id="import_module" | "__import__") | ast.Attribute(attr="import_module"),
                    args=[ast.Constant(value=str(name)), *_],
                ):
                    yield name.lstrip(".")


def _sets_environment(function: ast.AST) -> bool:
    """Return whether a function uses `os.environ` or the like, other than to read it."""
    reads: set[ast.expr] = set()
    for node in ast.walk(function):
        match node:
            case ast.Subscript(value=used, slice=ast.Constant(value=name)) if name in HARMLESS_VARIABLES:
                reads.add(used)
            case ast.Subscript(value=used, ctx=ast.Load()) | ast.Attribute(value=used, attr="get" | "copy"):
                reads.add(used)
            case ast.Call(func=ast.Attribute(value=used), args=[ast.Constant(value=name), *_]) if (
                name in HARMLESS_VARIABLES
            ):
                reads.add(used)
            case ast.Compare(ops=[ast.In() | ast.NotIn()], comparators=[used]):
                reads.add(used)
    setters = ("environ", "environb", "putenv", "unsetenv")
    return any(
        (isinstance(node, ast.Name) and node.id in setters)
        or (isinstance(node, ast.Attribute) and node.attr in setters)
        for node in ast.walk(function)
        if node not in reads
    )
