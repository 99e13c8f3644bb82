"""Threads of numeric libraries: one in the template, which is forked, and those of its slot in a trainer."""

from __future__ import annotations

import json
import os
from contextlib import suppress

import threadpoolctl

OPENMP = "OMP_NUM_THREADS"
"""Variable that most libraries read where their own is not set."""

_OWN = {
    "openblas": "OPENBLAS_NUM_THREADS",
    "mkl": "MKL_NUM_THREADS",
    "blis": "BLIS_NUM_THREADS",
    "veclib": "VECLIB_MAXIMUM_THREADS",
    "numexpr": "NUMEXPR_NUM_THREADS",
}
"""The own variables of libraries, by the names that threadpoolctl gives those which it knows."""

_VARIABLES = (OPENMP, *_OWN.values())

_UNHELD = (
    "TF_NUM_INTRAOP_THREADS",
    "TF_NUM_INTEROP_THREADS",
    # Those of XLA's own processor backend, which JAX uses; older versions read the second.
    "PJRT_NPROC",
    "NPROC",
    "NUMBA_NUM_THREADS",
    "POLARS_MAX_THREADS",
    "RAYON_NUM_THREADS",
    "OPENCV_FOR_THREADS_NUM",
    # Processes of joblib.
    "LOKY_MAX_CPU_COUNT",
)
"""Variables of libraries that start their threads when these first compute, which the template's do not. Without them
they would start one for each core of the host where a quota limits the slot and it is pinned to none."""
_CHOSEN = "_HPO_CHOSEN_THREADS"
"""Variable that takes the user's settings through the template to its trainers."""


def hold_threads(environment: dict[str, str]) -> None:
    """Give the template one thread: a pool of threads does not survive a fork."""
    chosen = {name: environment[name] for name in _VARIABLES if name in environment}
    environment |= {_CHOSEN: json.dumps(chosen), **dict.fromkeys(_VARIABLES, "1")}


def find_libraries() -> None:
    """Find the numeric libraries ahead of forks, which find only further ones: resolving their paths takes 20 ms."""
    threadpoolctl.ThreadpoolController()


def release_threads(threads: int) -> None:
    """Give numeric libraries of this process, and processes that it starts, `threads` threads.

    Settings of the user's own stay. Libraries that are loaded already no longer read their variables.
    """
    chosen = json.loads(os.environ.pop(_CHOSEN, "{}"))
    for name in _VARIABLES:
        if name in chosen:
            os.environ[name] = chosen[name]
        elif OPENMP in chosen:
            os.environ.pop(name, None)
        else:
            os.environ[name] = str(threads)
    for name in _UNHELD:
        os.environ.setdefault(name, str(threads))
    for library in threadpoolctl.ThreadpoolController().lib_controllers:
        own = _OWN.get(library.internal_api, OPENMP)
        # OMP_NUM_THREADS may list a number for each level of nested regions; libraries ignore a damaged value.
        with suppress(ValueError):
            count = int(os.environ.get(own, os.environ.get(OPENMP, "")).partition(",")[0])
            if count > 0:
                library.set_num_threads(count)
