"""Where this machine keeps things and which database it uses, read from the environment once."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from hpo.errors import UsageError

ROOT_HOME = Path("/var/lib/hpo")
"""Home of root: the embedded PostgreSQL widens the modes of the folders above its own, `/root` included."""


@dataclass(frozen=True)
class Settings:
    """The paths and the storage of one process; every path is absolute."""

    home: Path
    """What must survive on this machine: the embedded database, checkpoints, logs (`HPO_HOME`)."""
    storage: str | None = field(repr=False)
    """URL of a PostgreSQL server (`HPO_STORAGE`), perhaps with a password; None: the embedded one in `home`."""
    data_dir: Path
    """Folder that holds `<name>.npz` (`HPO_DATA_DIR`, `data` in `home` by default)."""
    results_dir: Path
    """Where retraining writes its results (`HPO_RESULTS_DIR`)."""
    checkpoints: Path
    """Checkpoints of interrupted trials, a folder a study (`HPO_CHECKPOINTS`)."""
    lease_seconds: float = 120.0
    """How long an agent may be silent before others take its trials (`HPO_LEASE_SECONDS`)."""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> Settings:
        """Settings from environment variables; one that is set but empty counts as not set."""
        env = os.environ if environment is None else environment
        home = _path(env.get("HPO_HOME")) or _default_home(env)
        return cls(
            home=home,
            storage=env.get("HPO_STORAGE") or None,
            data_dir=_path(env.get("HPO_DATA_DIR")) or home / "data",
            results_dir=_path(env.get("HPO_RESULTS_DIR")) or Path("results").absolute(),
            checkpoints=_path(env.get("HPO_CHECKPOINTS")) or home / "checkpoints",
            lease_seconds=_seconds("HPO_LEASE_SECONDS", env.get("HPO_LEASE_SECONDS"), 120.0),
        )


def _default_home(env: Mapping[str, str]) -> Path:
    if os.name == "posix" and os.geteuid() == 0:
        return ROOT_HOME
    shared = env.get("XDG_DATA_HOME", "")
    # The XDG specification has relative paths ignored.
    base = Path(shared) if Path(shared).is_absolute() else Path.home() / ".local" / "share"
    return base / "hpo"


def _seconds(name: str, value: str | None, default: float) -> float:
    if not value:
        return default
    try:
        seconds = float(value)
    except ValueError:
        seconds = 0.0
    if not 1.0 <= seconds < 1e6:
        raise UsageError(f"{name}={value}: give a number of seconds, at least 1")
    return seconds


def _path(value: str | None) -> Path | None:
    return Path(value).expanduser().absolute() if value else None
