"""Folders of the checkpoints of a retrain's runs, by their configurations and the code of the objective."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from hpo.errors import RetrainRunningError
from hpo.export.config import Config
from hpo.files.lock import exclusive_lock
from hpo.trainer.checkpointing.checkpoints import CheckpointFolder

log = logging.getLogger(__name__)

Kind = Literal["candidates", "retrain"]


@dataclass(frozen=True)
class RunFolders:
    """The folders of one study's retrains: a run is continued only with the code that began it."""

    checkpoints: Path
    study: str

    def of(self, kind: Kind, configs: Sequence[Config], code: str) -> Path:
        """Return the folder of runs with this code; log that they begin again if other code has begun them."""
        folder = self.checkpoints / f"{_name(kind, configs)}-{code}"
        others = [path for path in self._any_code(kind, configs) if any(path.glob("*/*.npz"))]
        if others and not folder.exists():
            earlier = ", ".join(
                path.name.removeprefix(_name(kind, configs))[1:] or "unknown" for path in others
            )
            log.warning(
                f"the objective's code has changed since this retrain was interrupted ({earlier} -> {code}): it begins"
                " again; with the earlier code, the same command continues the earlier runs"
            )
        return folder

    def delete(self, kind: Kind, configs: Sequence[Config]) -> None:
        """Delete the folders of runs that have finished, those of other code included."""
        for folder in self._any_code(kind, configs):
            # Unless another process trains in it.
            with suppress(RetrainRunningError), exclusive_lock(folder, self.study):
                CheckpointFolder(folder).delete()

    def _any_code(self, kind: Kind, configs: Sequence[Config]) -> list[Path]:
        name = _name(kind, configs)
        # Those of earlier versions name no code.
        return sorted({*self.checkpoints.glob(f"{name}-*"), *self.checkpoints.glob(name)})


def _name(kind: Kind, configs: Sequence[Config]) -> str:
    """Return a name that a resumed retrain shares with the interrupted one, and no other retrain."""
    parts = [
        part
        for config in configs
        for part in (
            config.objective,
            dict(config.params),
            config.epochs,
            dict(config.data),
            # As the names of versions without it.
            *([config.restarts] if config.restarts else []),
        )
    ]
    return f"{kind}-{hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:12]}"
