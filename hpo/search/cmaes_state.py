"""CMA-ES whose state is read from the database without running code that someone has stored there.

Optuna pickles the state into attributes of trials, which authors of backups and users of the database can write.
"""

from __future__ import annotations

import io
import logging
import pickle
from typing import Any

from optuna.samplers import CmaEsSampler
from optuna.trial import FrozenTrial

log = logging.getLogger(__name__)

_ALLOWED = {
    ("cmaes._cma", "CMA"),
    ("numpy", "dtype"),
    ("numpy", "ndarray"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "scalar"),
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy.core.multiarray", "scalar"),
    ("numpy._core.numeric", "_frombuffer"),
    ("numpy.core.numeric", "_frombuffer"),
    ("numpy.random._mt19937", "MT19937"),
    ("numpy.random._pickle", "__bit_generator_ctor"),
    ("numpy.random._pickle", "__randomstate_ctor"),
}
"""Classes and functions of a pickled state: none runs code of its arguments."""


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"{module}.{name} is no part of a CMA-ES state")
        return super().find_class(module, name)


class StoredCmaEsSampler(CmaEsSampler):
    """Continues from the newest state that holds numbers only; others are ignored with a warning."""

    def _restore_optimizer(self, completed_trials: list[FrozenTrial]) -> Any:
        for trial in reversed(completed_trials):
            parts = {
                name: value
                for name, value in trial.system_attrs.items()
                if name.startswith(self._attr_key_optimizer)
            }
            if not parts:
                continue
            try:
                return _Unpickler(io.BytesIO(bytes.fromhex(self._concat_optimizer_attrs(parts)))).load()
            # Damaged bytes make pickle raise anything.
            except Exception as exc:  # noqa: BLE001
                log.warning(
                    f"the CMA-ES state of trial {trial.number} is ignored: {' '.join(str(exc).split())}"
                )
        return None
