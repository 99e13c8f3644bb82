"""The `model.keras` of a final run, and the Python code that loads it where it holds classes or functions of yours."""

from __future__ import annotations

import importlib
import json
import sys
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from types import FunctionType, MappingProxyType, ModuleType
from typing import TYPE_CHECKING, Any

from objectives import code

if TYPE_CHECKING:
    import keras

    from objectives.base import Run

NAME = "model.keras"


class CodeNeededError(Exception):
    """A saved model holds classes or functions of yours; the message names them."""


def save(model: keras.Model, run: Run) -> None:
    """Write the model of a run with an output folder, and record how to load it, unless plain Keras can.

    A model that cannot be saved is reported, because the results stand: a layer of your own may not be made for it.
    """
    if run.output is None:
        return
    run.output.mkdir(parents=True, exist_ok=True)
    path = run.output / NAME
    try:
        model.save(path)
    except OSError:
        raise
    except Exception as exc:  # noqa: BLE001 - the code of a layer may raise anything
        path.unlink(missing_ok=True)
        run.log(f"{NAME} is not written ({type(exc).__name__}: {exc})")
        return
    lines = loading_code(_config(path), _functions(model))
    if lines:
        run.record(load_model=lines)


def load(path: Path, import_code: Callable[[], Mapping[str, Any]] | None = None) -> keras.Model:
    """Return a saved model, for inference.

    Where it holds code of yours, `import_code` imports it, and returns the names of the objective's module, in which
    those of a notebook are found. Without it, nothing but Keras is run.

    Raises:
        CodeNeededError: the model holds code of yours, and `import_code` is None or does not bring it.
        OSError, ValueError, TypeError: it is not a model, or was damaged.
    """
    import keras

    config = _config(path)
    # Losses and metrics are not needed.
    config.pop("compile_config", None)
    parts = [part for part in _parts(config) if _is_foreign(part)]
    if not parts:
        return keras.saving.load_model(path, compile=False)
    names = sorted(
        {str(part["config" if part["class_name"] == "function" else "class_name"]) for part in parts}
    )
    if import_code is None:
        raise CodeNeededError(", ".join(names))
    given = import_code()
    objects, unsafe = {}, False
    for part in parts:
        if part["class_name"] == "__lambda__":
            unsafe = True
        elif (found := _found(part, given)) is not None:
            objects[found[0]] = found[1]
    return keras.saving.load_model(path, custom_objects=objects, safe_mode=not unsafe, compile=False)


def _config(path: Path) -> Any:
    with zipfile.ZipFile(path) as archive:
        return json.loads(archive.read("config.json"))


def _is_foreign(part: Mapping[str, Any]) -> bool:
    """Return whether Keras itself does not have a class or function of a model's configuration."""
    if part["class_name"] == "__lambda__":
        return True
    if part["class_name"] == "function":
        return not _is_of_keras(str(part["config"]))
    return _origin(part, {}) is not None


def _found(part: Mapping[str, Any], given: Mapping[str, Any]) -> tuple[str, Any] | None:
    """Return a class or function of yours with its key among custom objects; None if an import has registered it.

    Raises:
        CodeNeededError: there is none of its name.
    """
    origin = _origin(part, {})
    if origin is None:
        return None
    key, module, name = origin
    if module and module != "__main__":
        with suppress(ImportError):
            importlib.import_module(module)
    places = [vars(sys.modules[module])] if module in sys.modules else []
    # The module of a notebook's objective has other names in each process.
    for names in (*places, given) if part["class_name"] != "function" else (given, *places):
        if name in names:
            return key, names[name]
    if ">" in key:
        return None
    raise CodeNeededError(name)


def loading_code(config: Any, functions: Mapping[str, FunctionType] = MappingProxyType({})) -> list[str]:
    """Return lines of Python that load a saved model with this configuration; none if plain Keras loads it.

    `functions` are those of the model by their names, which several modules may have.

    Keras finds classes and functions that `register_keras_serializable` has registered once their module is imported;
    others have to be given.
    """
    modules: dict[str, str] = {}
    """Names of modules to their names in the lines."""
    objects: dict[str, str] = {}
    local: dict[str, None] = {}
    """Names of classes and functions that no module has."""
    options = []
    for part in _parts(config):
        if part["class_name"] == "__lambda__":
            options = ["safe_mode=False"]
        elif (found := _origin(part, functions)) is not None:
            key, module, name = found
            # The process of a trial has only those names of a notebook that it uses.
            if module != "__main__" and not hasattr(sys.modules.get(module), name):
                local[name] = None
                continue
            importable = all(step.isidentifier() for step in module.split("."))
            short = modules.setdefault(module, module if importable else f"module_{len(modules) + 1}")
            if ">" not in key:
                objects[key] = f"{short}.{name}"
    if objects:
        given = ", ".join(f"{key!r}: {expression}" for key, expression in objects.items())
        options.insert(0, f"custom_objects={{{given}}}")
    lines = ["import importlib"] if any(module != short for module, short in modules.items()) else []
    lines += [
        f"import {module}" if module == short else f"{short} = importlib.import_module({module!r})"
        for module, short in modules.items()
    ]
    if not lines and not options and not local:
        return []
    lines += ["import keras", f"model = keras.saving.load_model({', '.join([repr(NAME), *options])})"]
    if local:
        missing = f"{', '.join(local)}, defined in a function, cannot be imported"
        lines.append(f"# {missing}: give them as custom_objects, or define them at the top of the file")
    return lines


def _functions(model: keras.Model) -> dict[str, FunctionType]:
    """Return the functions in a model's layers, losses and metrics by their names."""
    compiled = getattr(getattr(model, "_compile_config", None), "config", None)
    holders = [compiled, *(vars(layer) for layer in model._flatten_layers())]
    return {found.__name__: found for holder in holders for found in _functions_in(holder)}


def _functions_in(value: Any, levels: int = 3) -> Iterator[FunctionType]:
    if isinstance(value, FunctionType):
        yield value
    elif levels and isinstance(value, list | tuple | dict):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _functions_in(part, levels - 1)


def _parts(config: Any) -> Iterator[Mapping[str, Any]]:
    """Yield the configurations of all classes and functions in a model's."""
    if isinstance(config, Mapping):
        if "class_name" in config and "config" in config:
            yield config
        for value in config.values():
            yield from _parts(value)
    elif isinstance(config, list):
        for value in config:
            yield from _parts(value)


def _origin(part: Mapping[str, Any], functions: Mapping[str, FunctionType]) -> tuple[str, str, str] | None:
    """Return key, module and name of a class or function of yours; None for one of Keras."""
    if part["class_name"] == "function":
        return _origin_of_function(str(part["config"]), functions)
    module, name = part.get("module"), part["class_name"]
    if module is None and part.get("registered_name") == name:
        # Keras leaves the module out where it is a notebook or script itself.
        module = "__main__"
    if module is None or module.split(".")[0] in ("keras", "builtins"):
        return None
    return part.get("registered_name") or name, module, name


def _origin_of_function(key: str, functions: Mapping[str, FunctionType]) -> tuple[str, str, str] | None:
    """Return key, module and name of a function, of which Keras keeps the key alone."""
    name = key.rpartition(">")[2]
    if ">" in key:
        registered = sys.modules["keras"].saving.get_registered_object(key)
        return None if registered is None else (key, registered.__module__, registered.__name__)
    own = [sys.modules.get(functions[name].__module__)] if name in functions else []
    for module in filter(None, [*own, *sys.modules.values()]):
        found = getattr(module, "__dict__", {}).get(name)
        if isinstance(found, FunctionType) and found.__module__ == module.__name__ and _is_of_user(module):
            return key, module.__name__, name
    return None if _is_of_keras(key) else (key, "", name)


def _is_of_user(module: ModuleType) -> bool:
    """Return whether a module is yours: a notebook, which has no file, or imported from a file of yours."""
    file = getattr(module, "__file__", None)
    if module.__name__ == "__main__":
        return file is None
    return file is not None and not code.is_foreign(Path(file).resolve(), Path())


def _is_of_keras(name: str) -> bool:
    """Return whether Keras has a function of this name for models."""
    config = {"module": "builtins", "class_name": "function", "config": name, "registered_name": "function"}
    try:
        sys.modules["keras"].saving.deserialize_keras_object(config)
    # Of another version, or with a name that stands for something else.
    except (TypeError, ValueError):
        return False
    return True
