"""Modules of your own files, under names by which other processes import them too.

Processes of joblib, multiprocessing or an executor import functions and classes by their modules. A file is imported as
you would import it, `model.py` as `model` and `package/model.py` as `package.model`, with its folder at the end of
the import path, which such processes inherit. Where Python finds another file by that name (`random.py`, a second
`model.py`) or none (`model.v2.py`), the module is `hpo.user_code.<folder>.<name>`: its name leads to the file, so that
every process that can import `hpo` can import it.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import os
import stat
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType

__path__: list[str] = []
"""Makes this module a package, whose modules `_UserFiles` finds."""


def load(path: Path) -> ModuleType:
    """Import a file, with its folder at the end of the import path, and return its module.

    Raises whatever its code raises, also SystemExit.
    """
    _import_from(path.parent, path)
    name, package_error = _name(path)
    _FILES.names.setdefault(name, path)
    if name.startswith(f"{__name__}.") and path.parent == Path.cwd().resolve():
        # Such as `random.py`: processes that joblib starts with `python -m` would import it in place of Python's own.
        os.environ.setdefault("PYTHONSAFEPATH", "1")
    try:
        module = importlib.import_module(name)
    except ImportError as exc:
        if package_error is not None and "relative import" in str(exc):
            raise package_error from exc
        raise
    # Objects that an objective has pickled under an earlier version name it so.
    sys.modules.setdefault(_former_name(path), module)
    return module


def package_root(path: Path) -> Path:
    """Return the folder from which a file is imported: its own, or that of its outermost package."""
    folder = path.parent
    while (folder / "__init__.py").is_file() and "." not in folder.name and folder != folder.parent:
        folder = folder.parent
    # Nothing but the file's own folder is searched in a folder such as /tmp.
    return path.parent if is_shared(folder) else folder


def is_shared(folder: Path) -> bool:
    """Whether others may add files to a folder, but not replace those of other users, as in /tmp."""
    mode = folder.stat().st_mode
    return bool(mode & stat.S_ISVTX and mode & (stat.S_IWGRP | stat.S_IWOTH))


def name_in(folder: Path, dotted: str) -> str:
    """Return the name by which any process can import a module of a folder that is not on its import path."""
    return f"{__name__}.{_quoted(os.fsencode(folder))}.{dotted}"


def _name(path: Path) -> tuple[str, BaseException | None]:
    """Return a module name for a file, and the error of its package if that cannot be imported."""
    root, error = package_root(path), None
    if root != path.parent and "." not in path.stem:
        _import_from(root, path)
        parts = path.relative_to(root).with_suffix("").parts
        dotted = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        try:
            return dotted if _finds(dotted, path) else name_in(root, dotted), None
        # Run as a script, a file of a package whose own code fails may do without it.
        except (Exception, SystemExit) as exc:  # noqa: BLE001
            error = exc
    try:
        found = "." not in path.stem and not is_shared(path.parent) and _finds(path.stem, path)
    # A module such as `__main__` may have no spec.
    except ValueError:
        found = False
    return path.stem if found else name_in(path.parent, _quoted(os.fsencode(path.stem))), error


def _finds(name: str, path: Path) -> bool:
    """Return whether Python finds a file by a name, which imports the packages around it."""
    importlib.invalidate_caches()
    spec = importlib.util.find_spec(name)
    return (
        spec is not None
        and spec.origin is not None
        and os.path.realpath(spec.origin) == os.path.realpath(path)
    )


def _former_name(path: Path) -> str:
    digest = hashlib.sha256(str(path).encode(errors="surrogateescape")).hexdigest()[:12]
    return f"_objective_{digest}_{path.stem}"


def _quoted(name: bytes) -> str:
    """Return a name without dots, which would separate packages."""
    from urllib.parse import quote

    return quote(name).replace(".", "%2E")


def _unquoted(name: str) -> str:
    from urllib.parse import unquote_to_bytes

    return os.fsdecode(unquote_to_bytes(name))


class _SourceLoader(SourceFileLoader):
    """Loads a file without its cache in `__pycache__`, a folder that another user may have made."""

    def get_code(self, fullname: str) -> CodeType:
        path = self.get_filename(fullname)
        return self.source_to_code(self.get_data(path), path)


class _UserFiles(MetaPathFinder):
    """Finds the files that were loaded here, and those whose folder is part of their name."""

    def __init__(self) -> None:
        self.names: dict[str, Path] = {}
        """Names to the files that were loaded by them."""

    def find_spec(
        self,
        fullname: str,
        path: object,  # noqa: ARG002
        target: object = None,  # noqa: ARG002
    ) -> ModuleSpec | None:
        if fullname in self.names:
            return _spec(fullname, self.names[fullname])
        if not fullname.startswith(f"{__name__}."):
            return None
        quoted, *names = fullname.removeprefix(f"{__name__}.").split(".")
        folder = Path(_unquoted(quoted))
        if not folder.is_dir():
            return None
        if not names:
            spec = ModuleSpec(fullname, None, is_package=True)
            # Modules of others in a folder such as /tmp are found only by their own names.
            spec.submodule_search_locations = [] if is_shared(folder) else [str(folder)]
            return spec
        file = folder / f"{_unquoted(names[0])}.py"
        if len(names) > 1 or not file.is_file():
            return None
        _import_from(folder, file)
        return _spec(fullname, file)


def _spec(name: str, file: Path) -> ModuleSpec | None:
    return importlib.util.spec_from_file_location(
        name,
        file,
        loader=_SourceLoader(name, str(file)),
        submodule_search_locations=[str(file.parent)] if file.name == "__init__.py" else None,
    )


class _OwnModules(MetaPathFinder):
    """Finds the modules of a folder such as /tmp that belong to you, root or the owner of the objective's file.

    Packages try to import many modules that are not installed, any of which another user may have put there.
    """

    def __init__(self, file: Path) -> None:
        self.folder = str(file.parent)
        self._owners = {os.geteuid(), 0, _owner(file)}

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,
        target: ModuleType | None = None,
    ) -> ModuleSpec | None:
        spec = PathFinder.find_spec(fullname, [self.folder], target) if path is None else None
        if spec is None or spec.origin is None or not spec.has_location:
            return None
        found = [spec.origin, *(spec.submodule_search_locations or ())]
        if any(_owner(Path(name)) not in self._owners for name in found):
            return None
        if isinstance(spec.loader, SourceFileLoader):
            spec.loader = _SourceLoader(fullname, spec.origin)
            if spec.submodule_search_locations is None:
                name = name_in(Path(self.folder), _quoted(fullname.encode()))
                return ModuleSpec(fullname, _SecondName(name, Path(spec.origin)), origin=spec.origin)
        return spec


class _SecondName(Loader):
    """Loads a file as a module whose own name leads other processes to it; `import` knows it by a short one too."""

    def __init__(self, name: str, file: Path) -> None:
        self._name, self._file = name, file

    def create_module(self, spec: ModuleSpec) -> None:
        """Leave the placeholder to Python; `exec_module` replaces it."""

    def exec_module(self, module: ModuleType) -> None:
        spec = _spec(self._name, self._file)
        assert spec is not None
        assert spec.loader is not None
        found = sys.modules.get(self._name)
        sys.modules[module.__name__] = found or importlib.util.module_from_spec(spec)
        if found is None:
            # Before its code runs, because modules may import one another.
            sys.modules[self._name] = sys.modules[module.__name__]
            try:
                spec.loader.exec_module(sys.modules[self._name])
            except BaseException:
                del sys.modules[self._name]
                raise


def _owner(path: Path) -> int:
    return path.stat().st_uid


def _import_from(folder: Path, file: Path) -> None:
    """Let modules of a folder be imported, after all others; in a folder such as /tmp, by the owner of `file`."""
    name = str(folder)
    if is_shared(folder):
        if not any(isinstance(finder, _OwnModules) and finder.folder == name for finder in sys.meta_path):
            sys.meta_path.append(_OwnModules(file))
    elif name not in sys.path:
        # Where this service is installed as an editable package, it is not on the path, and comes after all that is.
        if any(PathFinder.find_spec(ours, [name]) for ours in ("hpo", "objectives", "storage")):
            sys.path.append(str(Path(__file__).resolve().parents[1]))
        sys.path.append(name)


_FILES = _UserFiles()
sys.meta_path.insert(0, _FILES)
