"""Where this machine keeps things and which database it uses, read from the environment once."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT_HOME = Path("/var/lib/hpo")
"""Home of root: the embedded PostgreSQL widens the modes of the folders above its own, `/root` included."""


@dataclass(frozen=True)
class Settings:
    """The paths and the storage of one process; every path is absolute."""

    home: Path
    """What must survive on this machine: the embedded database, checkpoints, logs (`HPO_HOME`)."""
    storage: str | None
    """URL of a PostgreSQL server (`HPO_STORAGE`); None: the embedded one in `home`."""
    data_dir: Path | None
    """Folder that holds `<name>.npz` (`HPO_DATA_DIR`); None: bundled or downloaded data only."""
    results_dir: Path
    """Where retraining writes its results (`HPO_RESULTS_DIR`)."""
    checkpoints: Path
    """Checkpoints of interrupted trials, a folder a study (`HPO_CHECKPOINTS`)."""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> Settings:
        """Settings from environment variables; one that is set but empty counts as not set."""
        env = os.environ if environment is None else environment
        home = _path(env.get("HPO_HOME")) or _default_home(env)
        return cls(
            home=home,
            storage=env.get("HPO_STORAGE") or None,
            data_dir=_path(env.get("HPO_DATA_DIR")),
            results_dir=_path(env.get("HPO_RESULTS_DIR")) or Path("results").absolute(),
            checkpoints=_path(env.get("HPO_CHECKPOINTS")) or home / "checkpoints",
        )


def _default_home(env: Mapping[str, str]) -> Path:
    if os.name == "posix" and os.geteuid() == 0:
        return ROOT_HOME
    shared = env.get("XDG_DATA_HOME", "")
    # The XDG specification has relative paths ignored.
    base = Path(shared) if Path(shared).is_absolute() else Path.home() / ".local" / "share"
    return base / "hpo"


def _path(value: str | None) -> Path | None:
    return Path(value).expanduser().absolute() if value else None
