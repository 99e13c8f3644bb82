"""A configuration: a point of an objective's space, and all else that is needed to train it again."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from hpo import formatting
from hpo.options import PRECISIONS

FILE_VERSION = 1
"""Of `to_json`; a reader refuses later ones."""


@dataclass(frozen=True)
class Config:
    """One configuration and what it showed; the folder of the data is left out, for it is one machine's."""

    objective: str
    params: Mapping[str, Any]
    epochs: int
    """Epochs that its learning rate schedule spans."""
    seed: int
    metric: str
    direction: str
    study: str | None = None
    trial: int | None = None
    value: float | None = None
    """What the metric was at the end of the trial, on validation data."""
    data: Mapping[str, Any] = field(default_factory=dict)
    """`objectives.base.DataOptions` without `data_dir`."""
    backend: str | None = None
    """Of Keras; this and what follows: as far as is known, what trained the trial."""
    precision: str | None = None
    """What its layers computed in: one of `hpo.options.PRECISIONS`."""
    device: Mapping[str, Any] = field(default_factory=dict)
    """`cores`: how many its slot had; `gpu`: which one, in words, if any. Empty: not known."""
    versions: Mapping[str, str] = field(default_factory=dict)
    created: str | None = None
    """When it was exported, ISO 8601."""

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready dict that `from_json` reads back."""
        safe: dict[str, Any] = formatting.json_safe({"hpo_config": FILE_VERSION, **asdict(self)})
        return safe

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Config:
        """The inverse of `to_json`; unknown keys are ignored.

        Raises:
            ValueError: a key is missing or its value is of another kind than it must be; says which.
        """
        wanted: dict[str, type | tuple[type, ...]] = {
            "objective": str,
            "params": Mapping,
            "epochs": int,
            "seed": int,
            "metric": str,
            "direction": str,
        }
        optional: dict[str, type | tuple[type, ...]] = {
            "study": str,
            "trial": int,
            "value": (int, float, str),
            "data": Mapping,
            "backend": str,
            "precision": str,
            "device": Mapping,
            "versions": Mapping,
            "created": str,
        }
        for name, kind in {**wanted, **optional}.items():
            given = values.get(name)
            if given is None and name in optional:
                continue
            if given is None:
                raise ValueError(f"it has no {name!r}")
            if not isinstance(given, kind) or isinstance(given, bool):
                raise ValueError(f"its {name!r} cannot be {given!r}")
        if values["epochs"] < 1:
            raise ValueError(f"its 'epochs' cannot be {values['epochs']}")
        if values["direction"] not in ("minimize", "maximize"):
            raise ValueError(f"its 'direction' cannot be {values['direction']!r}")
        if values.get("precision") not in (None, *PRECISIONS):
            raise ValueError(f"its 'precision' cannot be {values['precision']!r}")
        _check_data(values.get("data") or {})
        _check_device(values.get("device") or {})
        known = {f.name: values[f.name] for f in fields(cls) if values.get(f.name) is not None}
        if "value" in known:
            known["value"] = float(known["value"])
        return cls(**known)

    @property
    def about(self) -> str:
        """What it is and how good it was, in a line."""
        where = f"trial {self.trial} of study {self.study}: " if self.trial is not None else ""
        value = f" {self.metric} {formatting.metric(self.value)}" if self.value is not None else ""
        return f"{where}{self.objective}{value}"


def _check_data(data: Mapping[str, Any]) -> None:
    """See that `data` holds `objectives.base.DataOptions`, except for the folder, which is this machine's.

    Raises:
        ValueError: a name is unknown or a value cannot be; says which.
    """
    from objectives.base import DataOptions

    known = [option.name for option in fields(DataOptions) if option.name != "data_dir"]
    for name, value in data.items():
        if name == "data_dir":
            raise ValueError("its 'data' cannot name a folder: give 'data_dir' as --data-dir or HPO_DATA_DIR")
        if name not in known:
            raise ValueError(f"its 'data' has an unknown {name!r}; known are {', '.join(known)}")
        is_whole = isinstance(value, int) and not isinstance(value, bool)
        fits = {
            "limit": value is None or (is_whole and value >= 1),
            "validation_fraction": isinstance(value, float) and math.isfinite(value) and 0 < value < 1,
            "split_seed": is_whole and 0 <= value < 2**32,
        }
        if not fits.get(name, True):
            raise ValueError(f"its 'data' cannot have {name!r} {value!r}")


def _check_device(device: Mapping[str, Any]) -> None:
    """See that `device` is what a slot had.

    Raises:
        ValueError: a name is unknown or a value cannot be; says which.
    """
    for name, value in device.items():
        is_count = isinstance(value, int) and not isinstance(value, bool) and value >= 1
        fits = {"cores": is_count, "gpu": value is None or isinstance(value, str)}
        if name not in fits:
            raise ValueError(f"its 'device' has an unknown {name!r}; known are {', '.join(fits)}")
        if not fits[name]:
            raise ValueError(f"its 'device' cannot have {name!r} {value!r}")
