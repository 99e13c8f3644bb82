"""The backend of Keras with which a study trains, for this process and those that it starts."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from contextlib import suppress

from hpo.errors import StudyConflictError, UsageError
from objectives.backend import chosen
from objectives.backend.interface import backend_named

_VARIABLE = "KERAS_BACKEND"
_ASK = (
    "import json, sys; from objectives import backend; backend.before_import();"
    " print(json.dumps(backend.BACKENDS[sys.argv[1]].gpu_names()))"
)
_ASK_SECONDS = 120.0


def choose_backend(requested: str | None, stored: str = "", study: str = "") -> str:
    """Set and return the backend: the requested one, that of `KERAS_BACKEND`, that of a study, or Keras' own choice.

    `stored` is the one that `study` trains with; empty: it may be any. Call it before Keras is imported.

    Raises:
        StudyConflictError: the study trains with another one than the requested one.
        UsageError: there is no such backend, or its package is not installed.
    """
    asked = requested or os.environ.get(_VARIABLE)
    if asked and stored not in ("", asked):
        source = f"--backend {asked}" if requested else f"{_VARIABLE}={asked}"
        remedy = f"use --backend {stored}" if requested else f"unset {_VARIABLE}, or give --backend {stored}"
        raise StudyConflictError(
            f"study {study!r} trains with {stored}, and {source} would give its trials other random numbers and"
            f" rounding: {remedy}, or start another study with --study"
        )
    found = asked or stored or chosen()
    backend = backend_named(found)
    if importlib.util.find_spec(backend.package) is None:
        raise UsageError(f"Keras' backend {found} is not installed: {backend.installation}")
    if found != chosen():
        os.environ[_VARIABLE] = found
    return found


def gpus_of_backend(name: str) -> list[str] | None:
    """Return the names of the GPUs that a backend finds, asked in a process of its own; None if that fails."""
    with suppress(OSError, ValueError, subprocess.SubprocessError):
        answer = subprocess.run(
            [sys.executable, "-P", "-c", _ASK, name],
            env={**os.environ, _VARIABLE: name},
            capture_output=True,
            text=True,
            check=True,
            timeout=_ASK_SECONDS,
        )
        found: list[str] = json.loads(answer.stdout.splitlines()[-1])
        return found
    return None
