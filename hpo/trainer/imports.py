"""Modules that a trial has imported itself, which the template may import once for the trials that follow.

As if the imports of a function stood at the top of its file: only modules that the objective's own files name, only
installed ones, and none where environment variables are set while it trains, which libraries read on import.
"""

from __future__ import annotations

import os
import sys
import sysconfig
from pathlib import Path

from hpo.trainer.messages import Imported
from hpo.trainer.template.fork_safety import FRAMEWORKS
from objectives import code, loader

_INSTALLED = tuple(Path(sysconfig.get_path(name)).resolve() for name in ("purelib", "platlib"))
_SET_BY_LIBRARIES = ("KMP_", "TF2_", "TPU_", "ENABLE_RUNTIME_", "HDF5_")
"""Prefixes of the variables that TensorFlow, scikit-learn and h5py set themselves while they are imported."""
_READ_THREADS = ("numba", "numexpr")
"""Packages that read their number of threads while they are imported, which the template does not know."""


class ImportWatch:
    """Finds the modules that are imported in this process after it was made."""

    def __init__(self) -> None:
        self._modules = frozenset(sys.modules)
        self._environment = dict(os.environ)

    def found(self, reference: str) -> Imported:
        """Return the modules that the objective of this reference has imported meanwhile."""
        new = sys.modules.keys() - self._modules
        if all(name.partition(".")[0] in sys.stdlib_module_names for name in new):
            # The objective's files need not be read to know that none is an installed one.
            return Imported(())
        named = dict.fromkeys([*loader.imports(reference), *FRAMEWORKS])
        modules = tuple(name for name in named if name in new and _is_installed(name))
        return Imported(modules, self._obstacle(reference, new) if modules else "")

    def _obstacle(self, reference: str, new: set[str]) -> str:
        """Return the reason why modules must be imported by each trial itself; empty if there is none."""
        for name in os.environ.keys() | self._environment.keys():
            changed = os.environ.get(name) != self._environment.get(name)
            if changed and not name.startswith(_SET_BY_LIBRARIES) and name not in code.HARMLESS_VARIABLES:
                return f"trials set the environment variable {name}"
        if loader.sets_environment(reference):
            return "one of its functions sets environment variables"
        threaded = [name for name in _READ_THREADS if name in new]
        return f"{threaded[0]} reads its number of threads while it is imported" if threaded else ""


def _is_installed(name: str) -> bool:
    spec = getattr(sys.modules[name], "__spec__", None)
    origin = getattr(spec, "origin", None)
    # Some packages give a module a second name, under which it cannot be imported.
    if getattr(spec, "name", None) != name or not isinstance(origin, str):
        return False
    return any(Path(origin).resolve().is_relative_to(folder) for folder in _INSTALLED)
