"""A configuration: parameters of an objective and everything else needed to train it again."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields
from types import NoneType
from typing import Any

from hpo import formatting
from hpo.options.hosts import PRECISIONS
from objectives.data_options import FITS, TASKS
from objectives.spaces.choices import ALLOWED, stored, value_problem
from objectives.trial_value import RULES

FILE_VERSION = 1
"""Version of the form that `to_json` writes; later versions are refused."""


Check = Callable[[Any], bool]


def _is(*kinds: type) -> Check:
    return lambda value: isinstance(value, kinds) and not isinstance(value, bool)


def _whole(least: float = -math.inf, below: float = math.inf) -> Check:
    return lambda value: isinstance(value, int) and not isinstance(value, bool) and least <= value < below


def _is_metric(value: Any) -> bool:
    return _is(int, float)(value) or value in ("nan", "inf", "-inf")


_FIELDS: Mapping[str, Check] = {
    "objective": _is(str),
    "params": _is(Mapping),
    "epochs": _whole(1),
    "restarts": lambda value: isinstance(value, list | tuple) and all(map(_whole(1), value)),
    "seed": _whole(),
    "metric": _is(str),
    "direction": ("minimize", "maximize").__contains__,
    "selects_metric": lambda value: isinstance(value, bool),
    "study": _is(str),
    "trial": _whole(),
    "value": _is_metric,
    "value_rule": RULES.__contains__,
    "value_epoch": _whole(1),
    "data": _is(Mapping),
    "backend": _is(str),
    "precision": PRECISIONS.__contains__,
    "device": _is(Mapping),
    "versions": _is(Mapping),
    "created": _is(str),
}
"""Check of each field of `Config`; None is allowed where the field has a default."""
_DATA: Mapping[str, Check] = {
    "limit": lambda value: value is None or _whole(1)(value),
    "folds": lambda value: value is None or _whole(2)(value),
    "validation_fraction": lambda value: isinstance(value, float) and 0 < value < 1,
    "split_seed": _whole(0, 2**32),
    "source": _is(str, NoneType),
    "task": (None, *TASKS).__contains__,
    "image_size": lambda value: value is None or _whole(1)(value),
    "image_fit": FITS.__contains__,
    "test_fraction": lambda value: value is None or (isinstance(value, float) and 0 < value < 1),
    "skip_unreadable": lambda value: isinstance(value, bool),
    "digest": lambda value: isinstance(value, str) and (not value or value.isalnum()),
}
"""Check of each field of `objectives.base.DataOptions` except the folders that belong to one machine."""
_DEVICE: Mapping[str, Check] = {"cores": _whole(1), "gpu": _is(str, NoneType)}


@dataclass(frozen=True, kw_only=True)
class Config:
    """A configuration and its result, without the data folder, which belongs to one machine."""

    objective: str
    params: Mapping[str, Any]
    epochs: int | None = None
    """Epochs of the learning rate schedule; None: an Optuna objective, which alone knows them."""
    restarts: tuple[int, ...] = ()
    """Epochs after which the schedule begins again, because the study's epochs were raised."""
    seed: int
    metric: str
    direction: str
    selects_metric: bool = False
    """Whether `--metric` has selected the metric in place of the one that the objective declares."""
    study: str | None = None
    trial: int | None = None
    value: float | None = None
    """Value of the trial, on validation data."""
    value_rule: str = "last"
    """Which report is the value of a trial: that of its last epoch, or its best one."""
    value_epoch: int | None = None
    """Epoch after which the trial had its value, where that is the best one."""
    data: Mapping[str, Any] = field(default_factory=dict)
    """`objectives.base.DataOptions` without `data_dir`."""
    backend: str | None = None
    """Keras backend that trained the trial; None if unknown, as for the following fields."""
    precision: str | None = None
    """Precision of its layers: one of `hpo.options.hosts.PRECISIONS`."""
    device: Mapping[str, Any] = field(default_factory=dict)
    """`cores`: number of cores of its slot; `gpu`: label of its GPU, if any. Empty: unknown."""
    versions: Mapping[str, str] = field(default_factory=dict)
    created: str | None = None
    """Time of the export, ISO 8601."""

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-ready dict that `from_json` reads back."""
        values = asdict(self)
        if self.value_rule == "last":
            # As in files of versions without the rule.
            del values["value_rule"], values["value_epoch"]
        if not self.restarts:
            # As in files of versions without raised epochs.
            del values["restarts"]
        if not self.selects_metric:
            # As in files of versions without the option.
            del values["selects_metric"]
        safe: dict[str, Any] = formatting.json_safe({"hpo_config": FILE_VERSION, **values})
        return safe

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Config:
        """Invert `to_json`; unknown keys are ignored.

        Raises:
            ValueError: a key is missing or its value is invalid; the message names it.
        """
        for one in fields(cls):
            value = values.get(one.name)
            if value is None and one.default is one.default_factory is MISSING:
                raise ValueError(f"it has no {one.name!r}")
            if value is not None and not _FIELDS[one.name](value):
                raise ValueError(f"its {one.name!r} cannot be {value!r}")
        if "data_dir" in (values.get("data") or {}):
            raise ValueError("its 'data' cannot name a folder: give 'data_dir' as --data-dir or HPO_DATA_DIR")
        for part, checks in (("data", _DATA), ("device", _DEVICE)):
            for name, value in (values.get(part) or {}).items():
                if name not in checks:
                    raise ValueError(f"its {part!r} has an unknown {name!r}; known are {', '.join(checks)}")
                if not checks[name](value):
                    raise ValueError(f"its {part!r} cannot have {name!r} {value!r}")
        for name, value in values["params"].items():
            if not isinstance(name, str):
                raise ValueError(f"its 'params' cannot have the name {name!r}: write it in quotes")
            problem = value_problem(value)
            if problem is not None:
                raise ValueError(f"its 'params' has {problem} as {name!r}: use {ALLOWED}")
        if not all(isinstance(one, str) for pair in (values.get("versions") or {}).items() for one in pair):
            raise ValueError("its 'versions' must be texts: write each in quotes")
        known = {f.name: values[f.name] for f in fields(cls) if values.get(f.name) is not None}
        known["params"] = {name: stored(value) for name, value in known["params"].items()}
        known["restarts"] = tuple(known.get("restarts", ()))
        if "value" in known:
            known["value"] = float(known["value"])
        return cls(**known)

    @property
    def about(self) -> str:
        """Objective, trial and value in one line."""
        where = f"trial {self.trial} of study {self.study}: " if self.trial is not None else ""
        value = f" {self.metric} {formatting.metric(self.value)}" if self.value is not None else ""
        return " ".join(formatting.printable(f"{where}{self.objective}{value}").split())
