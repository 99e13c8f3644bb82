"""The speeds of lanes that were measured on this host, kept until something changes on which they depend."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpo.devices.provenance import VERSIONED, backend, hardware, versions
from hpo.files.atomic import atomic_write
from objectives.device import Device
from objectives.lanes.rates import Measured, grows, widths

if TYPE_CHECKING:
    from hpo.trainer.template.messages import Load
    from objectives.base import Params

MOST_KEPT = 100
"""Number of files; the oldest ones are removed."""

_OF_PLACE = ("name", "cores", "gpu", "owns", "lane", "lanes")
"""Attributes of a slot that say where it is, not how much it is."""
_VARIABLES = ("JAX_", "XLA_", "PJRT_")
"""Beginnings of the names of variables that JAX reads."""


@dataclass(frozen=True, kw_only=True)
class KeptSpeeds:
    """Speeds of an objective's lanes, and all that they depend on."""

    about: Mapping[str, Any]
    most: int
    """Number of lanes up to which was measured, unless fewer showed that more are no faster."""
    speeds: Sequence[Measured]
    measured_at: str
    """Date and time in ISO form."""

    @property
    def objective(self) -> str:
        return str(self.about["objective"])

    def up_to(self, most: int) -> KeptSpeeds | None:
        """Return what another measurement up to `most` lanes would find again; None: that is not known."""
        wanted = list(widths(most))
        found = [one for one in self.speeds if one.width in wanted]
        # It measures its numbers of lanes in order, and ends where more are no faster.
        ended = found == self.speeds and (found[-1].width < self.most or not grows(found))
        follows = [one.width for one in found] == wanted[: len(found)]
        return replace(self, speeds=found) if follows and (ended or len(found) == len(wanted)) else None


def about(load: Load, code: str, params: Params, device: Device) -> Mapping[str, Any]:
    """Return all that the speed of lanes depends on: the code, the data, the configuration, libraries and hardware."""
    found = {
        "objective": load.objective,
        "code": code,
        "data": load.data.to_json() | {"final": load.final},
        "params": params,
        "backend": backend(),
        "versions": versions([*VERSIONED, "jaxlib"]),
        "variables": _variables(),
        "hardware": hardware(),
        "slot": {name: value for name, value in asdict(device).items() if name not in _OF_PLACE},
    }
    # As a file has it.
    return dict(json.loads(json.dumps(found, sort_keys=True, default=repr)))


def _variables() -> dict[str, str]:
    """Return the variables by which JAX may be faster or slower, those of its cache of programs not among them."""
    given = os.environ.items()
    return {name: value for name, value in given if name.startswith(_VARIABLES) and "CACHE" not in name}


def keep(home: Path, about: Mapping[str, Any], most: int, speeds: Sequence[Measured]) -> None:
    """Keep speeds for later launches; a folder that cannot be written costs them a measurement, and no more."""
    found = {
        "about": about,
        "most": most,
        "speeds": [[one.width, one.images_per_second] for one in speeds],
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    path = _path(home, about, most)
    with suppress(OSError):
        path.parent.mkdir(exist_ok=True)
        with atomic_write(path) as partial:
            partial.write_text(json.dumps(found))
        for old in _files(home)[MOST_KEPT:]:
            old.unlink(missing_ok=True)


def find(home: Path, about: Mapping[str, Any], most: int) -> KeptSpeeds | None:
    """Return the kept speeds that a measurement up to `most` lanes would find again; None: there are none."""
    found = (kept.up_to(most) for kept in all_kept(home) if kept.about == about)
    return next((kept for kept in found if kept is not None), None)


def all_kept(home: Path) -> list[KeptSpeeds]:
    """Return all speeds that were measured on this host, latest first."""
    return [kept for path in _files(home) if (kept := _read(path)) is not None]


def text(speeds: Sequence[Measured]) -> str:
    """Return the images per second of each number of lanes, for messages."""
    return "images/s " + ", ".join(f"{one.width}: {one.images_per_second:,.0f}" for one in speeds)


def _read(path: Path) -> KeptSpeeds | None:
    """Return what a file has; None: it is missing, or damaged."""
    try:
        found = json.loads(path.read_text())
        speeds = [Measured(int(lanes), float(speed)) for lanes, speed in found["speeds"]]
        return KeptSpeeds(
            about={**found["about"], "objective": found["about"]["objective"]},
            most=int(found["most"]),
            speeds=[speeds[0], *speeds[1:]],
            measured_at=str(found["measured_at"]),
        )
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return None


def _files(home: Path) -> list[Path]:
    """Return the files of all measurements, latest first."""
    with suppress(OSError):
        dated = [(path.stat().st_mtime, path) for path in _folder(home).glob("*.json")]
        return [path for _, path in sorted(dated, reverse=True)]
    return []


def _path(home: Path, about: Mapping[str, Any], most: int) -> Path:
    digest = hashlib.sha256(json.dumps([about, most], sort_keys=True).encode()).hexdigest()
    return _folder(home) / f"{digest[:16]}.json"


def _folder(home: Path) -> Path:
    return home / "lanes"
