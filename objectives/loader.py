"""Loads the class of an objective by its reference.

A reference is a shipped name (`digits-cnn`), `package.module:Class` or `path/to/file.py:Class`; in place of a class it
may name an Optuna objective, a function of a trial, or a KerasTuner model builder, a function of `hp` or a HyperModel.
Loading imports only the objective's module; `Objective.prepare` imports Keras.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import os
import re
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

from optuna.study import Study

from hpo import user_code
from hpo.errors import ObjectiveBrokenError, UnknownObjectiveError
from objectives import code
from objectives.adapters import keras_tuner_objective, optuna_objective
from objectives.base import Objective
from objectives.description import Description
from objectives.validation import problem

SHIPPED = {
    "digits-cnn": "objectives.shipped.digits_cnn:DigitsCNN",
    "mnist-cnn": "objectives.shipped.mnist_cnn:MnistCNN",
    "mnist-resnet": "objectives.shipped.mnist_resnet:MnistResNet",
    "cifar-cnn": "objectives.shipped.cifar_cnn:CifarCNN",
    "cifar-resnet": "objectives.shipped.cifar_resnet:CifarResNet",
    "image-cnn": "objectives.shipped.image_cnn:ImageCNN",
    "image-resnet": "objectives.shipped.image_resnet:ImageResNet",
    "image-finetune": "objectives.shipped.image_finetune:ImageFinetune",
}
"""Names of the shipped objectives to the references of their classes."""

_FORMS = (
    "a shipped name, package.module:Class or path/to/file.py:Class, where an Optuna objective or a KerasTuner model"
    " builder may stand for Class"
)
_MODULE_REFERENCE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")


def names() -> tuple[str, ...]:
    """Return the names of the shipped objectives, sorted."""
    return tuple(sorted(SHIPPED))


def is_shipped(reference: str) -> bool:
    """Return whether `reference` names a shipped objective."""
    return reference in SHIPPED


def file_of(reference: str) -> Path | None:
    """Return the file that a reference names, through links; None if it names no file.

    Raises:
        UnknownObjectiveError: the file does not exist.
    """
    source, separator, _ = reference.rpartition(":")
    if is_shipped(reference) or not separator or not source.endswith(".py"):
        return None
    # Unlike `Path.expanduser`, it keeps the name of an unknown user.
    path = Path(os.path.expanduser(source)).absolute()  # noqa: PTH111
    if not path.is_file():
        raise UnknownObjectiveError(f"objective {reference!r}: there is no file {path}")
    return path


def resolve(reference: str) -> str:
    """Return the reference in the form in which studies store it, with an absolute path to a file.

    Raises:
        UnknownObjectiveError: the reference has another form, or its file does not exist.
    """
    if is_shipped(reference):
        return reference
    class_name = reference.rpartition(":")[2]
    path = file_of(reference)
    if path is not None:
        if not class_name.isidentifier():
            raise UnknownObjectiveError(f"objective {reference!r}: {class_name!r} cannot be a class name")
        return f"{path.resolve()}:{class_name}"
    if _MODULE_REFERENCE.fullmatch(reference):
        return reference
    if reference.endswith(".py"):
        raise UnknownObjectiveError(
            f"objective {reference!r} names no class: append it, as in {reference}:MyObjective"
        )
    near = difflib.get_close_matches(reference, names(), n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else f"shipped objectives are {', '.join(names())}."
    raise UnknownObjectiveError(f"unknown objective {reference!r}: {hint} Give {_FORMS}")


def load(reference: str) -> type[Objective]:
    """Import the objective's class and validate its declarations.

    Raises:
        UnknownObjectiveError: there is no such objective, module or file.
        ObjectiveBrokenError: its code raises on import, or the class is not a valid objective.
    """
    resolved = resolve(reference)
    source, _, class_name = SHIPPED.get(resolved, resolved).rpartition(":")
    module = _import_file(Path(source)) if source.endswith(".py") else _import_module(source, reference)
    where = module.__file__ or source
    found = getattr(module, class_name, None)
    if found is None:
        raise ObjectiveBrokenError(f"{where} has no class or function {class_name}; {_offer(module)}")
    if not (isinstance(found, type) and issubclass(found, Objective)):
        found = _wrapped(found, class_name, where, module)
    wrong = problem(found)
    if wrong:
        raise ObjectiveBrokenError(f"{class_name} in {where}: {wrong}")
    return found


def _wrapped(found: object, name: str, where: str, module: ModuleType) -> type[Objective]:
    """Return an Optuna objective or a KerasTuner model builder as an objective of this service."""
    try:
        if keras_tuner_objective.is_builder(found):
            kind = "a KerasTuner model builder"
            return keras_tuner_objective.wrap(found, name, module)
        if callable(found):
            kind = "an Optuna objective"
            return optuna_objective.wrap(found, name)
    except ValueError as exc:
        raise ObjectiveBrokenError(
            f"{name} in {where} is not a subclass of hpo.Objective, and as {kind} it {exc}; {_offer(module)}"
        ) from exc
    raise ObjectiveBrokenError(
        f"{name} in {where} is neither a subclass of hpo.Objective nor a function of an Optuna trial or of KerasTuner's"
        f" hp; {_offer(module)}"
    )


def code_digest(reference: str) -> str:
    """Return the digest of the code of an objective that was loaded, see `objectives.code`."""
    return code.digest(_source(reference))


def _source(reference: str) -> str:
    """Return the file or module of a reference."""
    resolved = resolve(reference)
    return SHIPPED.get(resolved, resolved).rpartition(":")[0]


def imports(reference: str) -> list[str]:
    """Return the names of the modules that the code of an objective imports anywhere, see `objectives.code`."""
    return code.imports(_source(reference))


def sets_environment(reference: str) -> bool:
    """Return whether a function in the code of an objective sets environment variables."""
    return code.sets_environment(_source(reference))


def describe(reference: str) -> Description:
    """Return the declarations of an objective: its space, metric, epochs and first configurations."""
    return load(reference).describe(reference)


def _import_module(name: str, reference: str) -> ModuleType:
    try:
        with _imported(name):
            return importlib.import_module(name)
    except ModuleNotFoundError as exc:
        missing = exc.name or ""
        if name == missing or name.startswith(f"{missing}."):
            raise UnknownObjectiveError(
                f"objective {reference!r}: there is no module {missing!r}: install it, put its folder on PYTHONPATH, "
                f"or give a file as path/to/file.py:Class"
            ) from exc
        raise _broken(exc, name) from exc
    except (Exception, SystemExit) as exc:
        raise _broken(exc, name) from exc


def _import_file(path: Path) -> ModuleType:
    try:
        with _imported(str(path)):
            return user_code.load(path)
    except (Exception, SystemExit) as exc:
        raise _broken(exc, str(path)) from exc


@contextmanager
def _imported(source: str) -> Iterator[None]:
    """Let a script see the arguments of a run without any, not ours, and refuse a search while it is imported.

    Every process would do that search again, before its first trial.
    """

    def refuse(*_: Any, **__: Any) -> NoReturn:
        raise RuntimeError(f"study.optimize() is called while the file is imported: {_GUARD}")

    arguments, optimize = sys.argv, Study.optimize
    sys.argv, Study.optimize = [source], refuse  # type: ignore[method-assign]
    try:
        yield
    finally:
        sys.argv, Study.optimize = arguments, optimize  # type: ignore[method-assign]


_GUARD = 'put it under if __name__ == "__main__":, which does not run here'
_SCRIPT = f"the file ends the process while it is imported, as a missing argument does: {_GUARD}"


def _broken(exc: BaseException, source: str) -> ObjectiveBrokenError:
    """Return an error of one line: the file, its last line in the traceback, and the cause."""
    frames = traceback.extract_tb(exc.__traceback__)
    if isinstance(exc, SyntaxError):
        file, line, text = exc.filename or source, exc.lineno, exc.msg
    else:
        file = next((frame.filename for frame in frames if frame.name == "<module>"), source)
        line = next((frame.lineno for frame in reversed(frames) if frame.filename == file), None)
        text = f"{exc}: {_SCRIPT}" if isinstance(exc, SystemExit) else str(exc)
    at = f", line {line}" if line else ""
    return ObjectiveBrokenError(f"{file}{at}: {type(exc).__name__}: {' '.join(text.split())}")


def _offer(module: ModuleType) -> str:
    """Return the objectives that a module defines, else its functions, for an error message."""
    own = {name: value for name, value in vars(module).items() if _is_of(value, module)}
    objectives = [
        name for name, value in own.items() if isinstance(value, type) and issubclass(value, Objective)
    ]
    functions = [name for name, value in own.items() if inspect.isfunction(value)]
    if objectives:
        return f"objectives in it: {', '.join(sorted(objectives))}"
    if functions:
        return f"functions in it: {', '.join(sorted(functions)[:10])}"
    return "it defines no objective"


def _is_of(value: object, module: ModuleType) -> bool:
    return getattr(value, "__module__", None) == module.__name__
