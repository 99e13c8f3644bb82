"""Settings of this machine, read from the environment once: folders, database, lease duration."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from hpo.errors import FileNotWritableError, UsageError
from hpo.ownership import make_private_folder

ROOT_HOME = Path("/var/lib/hpo")
"""Home for root: the embedded PostgreSQL opens the modes of its parent folders, which `/root` must not have."""

OF_OBJECTIVE = "HPO_OF_OBJECTIVE"
"""Variable that is set in the processes which run an objective, and in those that they start."""

_SIZE = re.compile(r"(\d{1,9}(?:\.\d+)?)\s*([kmgt]?)(?:i?b)?")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The paths and the storage of one process; every path is absolute."""

    home: Path
    """Folder of the data that must persist: embedded database, checkpoints, logs (`HPO_HOME`)."""
    storage: str | None = field(repr=False)
    """URL of a PostgreSQL server (`HPO_STORAGE`), perhaps with a password; None: the embedded one in `home`."""
    data_dir: Path
    """Folder that holds `<name>.npz` (`HPO_DATA_DIR`, `data` in `home` by default)."""
    results_dir: Path
    """Folder of results of retraining (`HPO_RESULTS_DIR`)."""
    checkpoints: Path
    """Folder of checkpoints, with a subfolder per study (`HPO_CHECKPOINTS`)."""
    lease_seconds: float = 120.0
    """Seconds without a heartbeat after which other agents take an agent's trials (`HPO_LEASE_SECONDS`)."""
    cache_bytes: int = 50 << 30
    """Limit of the decoded images in `cache_dir` (`HPO_CACHE_SIZE`)."""

    @property
    def cache_dir(self) -> Path:
        """Folder of decoded images."""
        return self.home / "cache"

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> Settings:
        """Return the settings of environment variables; an empty variable counts as unset."""
        env = os.environ if environment is None else environment
        home = _path("HPO_HOME", env.get("HPO_HOME")) or _default_home(env)
        results = _path("HPO_RESULTS_DIR", env.get("HPO_RESULTS_DIR") or "results")
        assert results is not None
        return cls(
            home=home,
            storage=env.get("HPO_STORAGE") or None,
            data_dir=_path("HPO_DATA_DIR", env.get("HPO_DATA_DIR")) or home / "data",
            results_dir=results,
            checkpoints=_path("HPO_CHECKPOINTS", env.get("HPO_CHECKPOINTS")) or home / "checkpoints",
            lease_seconds=_seconds("HPO_LEASE_SECONDS", env.get("HPO_LEASE_SECONDS"), 120.0),
            cache_bytes=_bytes("HPO_CACHE_SIZE", env.get("HPO_CACHE_SIZE"), cls.cache_bytes),
        )

    def make_home(self) -> None:
        """Create the home, which only its user can enter, unless it exists."""
        try:
            make_private_folder(self.home)
        except OSError as exc:
            raise FileNotWritableError(
                f"cannot create the folder {self.home} ({exc.strerror}): choose another with HPO_HOME"
            ) from exc


def _default_home(env: Mapping[str, str]) -> Path:
    if os.name == "posix" and os.geteuid() == 0:
        return ROOT_HOME
    shared = env.get("XDG_DATA_HOME", "")
    # By the XDG specification, relative paths are ignored.
    if Path(shared).is_absolute():
        return Path(shared) / "hpo"
    try:
        return Path.home() / ".local" / "share" / "hpo"
    except RuntimeError:
        raise UsageError("you have no home folder: set HPO_HOME") from None


def _seconds(name: str, value: str | None, default: float) -> float:
    if not value:
        return default
    try:
        seconds = float(value)
    except ValueError:
        seconds = 0.0
    if not 1.0 <= seconds < 1e6:
        raise UsageError(f"{name}={value} is invalid: use a number of seconds, at least 1")
    return seconds


def _bytes(name: str, value: str | None, default: int) -> int:
    if not value:
        return default
    found = _SIZE.fullmatch(value.strip().lower())
    if found is None:
        raise UsageError(f"{name}={value} is invalid: use a size such as 500M, 20G or 1.5T")
    return int(float(found[1]) * 1024 ** " kmgt".index(found[2] or " "))


def _path(name: str, value: str | None) -> Path | None:
    if not value:
        return None
    try:
        return Path(value).expanduser().absolute()
    except RuntimeError:
        raise UsageError(
            f"{name}={value}: there is no such user, or you have no home folder: give a path"
        ) from None
    except FileNotFoundError:
        raise UsageError(
            f"{name}={value} is relative to a folder that no longer exists: give an absolute path"
        ) from None
