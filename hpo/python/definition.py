"""The reference of an objective that is given as an object: its file or module, or else a folder that is made for it.

Such a folder holds `objective.py`, which loads the payload, `source.py`, the source for people and for the digest of
the code, and the payload. Studies name the first as any other file of an objective.
"""

from __future__ import annotations

import hashlib
import inspect
import io
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from types import FrameType, FunctionType
from typing import TYPE_CHECKING, Any

from hpo.errors import HpoError, StudyConflictError, UsageError
from hpo.ownership import make_private_folder
from hpo.python import payload, script
from hpo.python.source import Source
from hpo.study.definition import versions
from hpo.study.definition.launched_study import LaunchedStudy, find
from hpo.study.folders import DEFINED, is_defined
from objectives import code
from objectives.adapters.keras_tuner_objective import is_builder

if TYPE_CHECKING:
    from hpo.settings import Settings
    from storage.engine import Database

_MODULE = '''\
"""An objective that was defined in Python, and not in a file; `hpo.launch()` wrote this one."""

from typing import TYPE_CHECKING

from hpo.python.payload import load_payload

if TYPE_CHECKING:
    # The source of the payload.
    import source

globals().update(load_payload(__file__, {payload!r}, {version!r}))
'''

_OF_BUILDERS = ("data", "objective", "epochs")
"""Names next to a model builder that give the arguments of its search."""


@dataclass(frozen=True, kw_only=True)
class Definition:
    """An objective that no file or module of its own holds."""

    name: str
    objects: Mapping[str, Any]
    """The objective by its name; next to a model builder its data, metric and epochs."""

    @cached_property
    def source(self) -> Source:
        """Everything that the objects use."""
        return Source(self.objects)

    @cached_property
    def digest(self) -> str:
        """Digest of all that the objects use, by their source."""
        return hashlib.sha256(self.source.text.encode()).hexdigest()[: code.DIGITS]


def reference_of(objective: Any) -> str | None:
    """Return the reference of a function or class that a file or module holds under its name; None if none does.

    Raises:
        UsageError: it is called while that file is imported.
    """
    name, module = getattr(objective, "__qualname__", None), getattr(objective, "__module__", None)
    if not isinstance(name, str) or not name.isidentifier() or not isinstance(module, str):
        return None
    if not isinstance(objective, FunctionType | type):
        return None
    _refuse_import(module)
    holder = sys.modules.get(module)
    if getattr(holder, name, None) is not objective:
        return None
    file = getattr(holder, "__file__", None)
    if file is None or not file.endswith(".py") or not Path(file).is_file():
        return None
    path = Path(file).absolute()
    if module == "__main__":
        # A function may come from elsewhere: typed at a prompt, or run by another program in the name of this one.
        # Or it uses variables that an import of the script lacks.
        return f"{path}:{name}" if script.defines(path, objective) else None
    if code.is_foreign(path.resolve(), Path()):
        return f"{module}:{name}"
    return f"{path}:{name}"


def define(objective: Any, data: Any = None, metric: str | None = None) -> Definition:
    """Return the definition of an objective; `data` and `metric` are those of a model builder.

    Raises:
        UsageError: it can be no objective.
    """
    builder = is_builder(objective)
    if not builder and not callable(objective):
        raise UsageError(
            f"the objective is an object of type {type(objective).__name__}: give a class or function, or its name as"
            " text"
        )
    if not builder and (data is not None or metric is not None):
        raise UsageError("data and metric apply to a KerasTuner model builder only: leave them out")
    name = getattr(objective, "__name__", "")
    if (
        not name.isidentifier()
        or name.startswith("__")
        or name == "load_payload"
        or (builder and name in _OF_BUILDERS)
    ):
        name = "model" if builder else "objective"
    objects = {name: objective}
    if builder:
        objects |= _beside(objective)
        if data is not None:
            objects["data"] = data if callable(data) else partial(_returned, data)
        if metric is not None:
            objects["objective"] = metric
    return Definition(name=name, objects=objects)


@contextmanager
def written(
    database: Database, study: str, definition: Definition, settings: Settings, *, any_code: bool = False
) -> Iterator[str]:
    """Write a definition for a study, and yield its reference; remove it if no study has it after the block.

    With `any_code`, agents may train with either version, as with `--code`.

    Raises:
        StudyConflictError: an agent trains the study with another version.
        PayloadError: the objects cannot be carried to the trials.
    """
    settings.make_home()
    existing = find(database, study)
    folder = _folder(existing.spec.objective if existing is not None else "", study, definition, settings)
    reference = f"{folder / 'objective.py'}:{definition.name}"
    if existing is not None and existing.begun and existing.spec.objective != reference:
        raise StudyConflictError(
            f"study {study!r} was created with the objective {existing.spec.objective}, not with"
            f" {definition.name} as it is defined here: give that one, or create another study"
        )
    # Another launch of a study that does not exist yet uses the same folder if its code is the same.
    fresh = not folder.exists()
    try:
        _write(database, definition, folder, None if any_code else existing)
        yield reference
    finally:
        with suppress(HpoError):
            now = find(database, study) if fresh else None
            if fresh and (now is None or now.spec.objective != reference):
                shutil.rmtree(folder, ignore_errors=True)


def _write(database: Database, definition: Definition, folder: Path, trained: LaunchedStudy | None) -> None:
    """Write the files of a definition, unless agents train the study `trained` with another version."""
    for parent in (folder.parent, folder):
        make_private_folder(parent)
    name = f"payload-{definition.digest}.pickle"
    module = _MODULE.format(payload=name, version=payload.python_version())
    with tempfile.TemporaryDirectory(prefix=".new-", dir=folder) as staged:
        fresh = Path(staged)
        payload.write_text(fresh / "source.py", definition.source.text)
        payload.write_text(fresh / "objective.py", module)
        if trained is not None:
            now = versions.Trained(code.digest(str(fresh / "objective.py")))
            versions.check_agents(database, trained, now)
        # Always: trials get the present definition, also where the digest does not show a change.
        _write_payload(folder / name, definition)
        payload.write_folders(folder / payload.FOLDERS, list(definition.source.folders))
        for file in ("source.py", "objective.py"):
            (fresh / file).replace(folder / file)
    for other in folder.glob("payload-*.pickle"):
        if other.name != name:
            other.unlink()


def _write_payload(path: Path, definition: Definition) -> None:
    try:
        payload.write_payload(path, definition.objects)
    except payload.TooLargeError:
        largest = max(definition.source.values.items(), key=lambda item: _bytes(item[1]), default=None)
        named = f", {largest[0]} alone {_bytes(largest[1]) / 1e9:.1f} GB" if largest else ""
        raise payload.PayloadError(
            f"{definition.name} and the values that it uses take more than {payload.MOST_BYTES / 1e9:.1f} GB{named}:"
            " load large data in the objective, from a file"
        ) from None
    # The code of any object may raise anything.
    except Exception as exc:
        raise payload.PayloadError(
            f"{definition.name} cannot be carried to the trials, because {_culprit(definition)}"
            f" ({type(exc).__name__}: {exc}): make it in the function that uses it"
        ) from exc


def _culprit(definition: Definition) -> str:
    """Return the value that cannot be pickled, for a message."""
    from hpo.python.pickling import Pickler

    for name, value in definition.source.values.items():
        try:
            Pickler(io.BytesIO()).dump(value)
        except Exception:  # noqa: BLE001 - the code of any object may raise anything
            return f"it uses {name}, an object of type {type(value).__name__}"
    return "it uses an object that cannot be pickled"


def _bytes(value: Any) -> int:
    size = getattr(value, "nbytes", None)
    return size if isinstance(size, int) else sys.getsizeof(value)


def _folder(stored: str, study: str, definition: Definition, settings: Settings) -> Path:
    """Return the folder that a study has for its definition, or is to have.

    Of two launches that create a study at the same moment with different code, the second finds the study with another
    folder, and is refused.
    """
    # As studies store paths.
    parent = (settings.home / DEFINED).resolve()
    if is_defined(stored, settings.home):
        return Path(stored.rpartition(":")[0]).parent
    from storage.redaction import redacted

    # Studies of the same name in two databases differ.
    place = redacted(settings.storage or "", ())
    owner = f"{place} {study} {definition.name} {definition.digest}"
    return parent / f"{study}-{hashlib.sha256(owner.encode()).hexdigest()[:8]}"


def _beside(builder: Any) -> dict[str, Any]:
    """Return the data, metric and epochs next to a model builder, as in a file."""
    function = builder if inspect.isroutine(builder) else getattr(builder, "build", None)
    names = getattr(inspect.unwrap(function), "__globals__", {}) if callable(function) else {}
    found = {name: names[name] for name in _OF_BUILDERS if name in names}
    if not callable(found.get("data")):
        found.pop("data", None)
    if type(found.get("epochs")) is not int:
        found.pop("epochs", None)
    # A function of this name is an Optuna objective in the same notebook.
    if callable(found.get("objective")):
        found.pop("objective", None)
    return found


def _returned(value: Any) -> Any:
    return value


def _refuse_import(module: str) -> None:
    """Raise UsageError if the module is being imported by this call's caller."""
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        if frame.f_code.co_name == "<module>" and frame.f_globals.get("__name__") == module != "__main__":
            raise UsageError(
                f"hpo.launch() was called while {frame.f_code.co_filename} was imported (line {frame.f_lineno}): put"
                ' the call under if __name__ == "__main__":'
            )
        frame = frame.f_back
