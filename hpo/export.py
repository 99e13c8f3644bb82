"""A study's best configuration as a file that holds all that is needed to train it again."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from hpo import numbers
from hpo.errors import ConfigFileError, UsageError
from hpo.provenance import versions

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

    from hpo.trials import BestTrial
    from storage.engine import Database

Format = Literal["yaml", "json", "toml", "python"]
FORMATS: tuple[Format, ...] = ("yaml", "json", "toml", "python")
SUFFIXES: Mapping[str, Format] = {
    ".yaml": "yaml",
    ".yml": "yaml",
    ".json": "json",
    ".toml": "toml",
    ".py": "python",
}

_FILE_VERSION = 1


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
    versions: Mapping[str, str] = field(default_factory=dict)
    created: str | None = None
    """When it was exported, ISO 8601."""

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready dict that `from_json` reads back."""
        safe: dict[str, Any] = numbers.json_safe({"hpo_config": _FILE_VERSION, **asdict(self)})
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
        _check_data(values.get("data") or {})
        known = {f.name: values[f.name] for f in fields(cls) if values.get(f.name) is not None}
        if "value" in known:
            known["value"] = float(known["value"])
        return cls(**known)


def build_config(database: Database, name: str, trial: int | None = None) -> Config:
    """The study's best trial, or the one of that number, as a configuration.

    Raises:
        UnknownStudyError: there is no study of that name.
        NoResultError: none of its trials is complete, or that one is not.
    """
    if trial is None:
        return best_configs(database, name, 1)[0]
    from hpo.trials import complete_trial

    return _configs(database, name, [complete_trial(database, name, trial)])[0]


def best_configs(database: Database, name: str, most: int) -> list[Config]:
    """Up to `most` different configurations of the study, the best first.

    Raises:
        UnknownStudyError: there is no study of that name.
        NoResultError: none of its trials is complete.
    """
    from hpo.trials import best_trials

    return _configs(database, name, best_trials(database, name, most))


def _configs(database: Database, name: str, chosen: Sequence[BestTrial]) -> list[Config]:
    from hpo.study import find_study

    study = find_study(database, name)
    data = {key: value for key, value in study.spec.get("data", {}).items() if key != "data_dir"}
    created = datetime.now(UTC).isoformat(timespec="seconds")
    return [
        Config(
            objective=study.objective,
            params=dict(best.params),
            epochs=int(study.spec["epochs"]),
            seed=best.seed,
            metric=study.metric,
            direction=best.direction,
            study=name,
            trial=best.number,
            value=best.value,
            data=data,
            versions=versions(),
            created=created,
        )
        for best in chosen
    ]


def render(config: Config, form: Format) -> str:
    """The configuration as the text of a file."""
    if form == "json":
        return json.dumps(config.to_json(), indent=2, allow_nan=False, ensure_ascii=False) + "\n"
    if form == "yaml":
        import yaml

        body = yaml.safe_dump(config.to_json(), sort_keys=False, allow_unicode=True)
        return f"# {_about(config)}\n# Train it again: hpo retrain --study NAME --config THIS_FILE\n{body}"
    if form == "toml":
        import tomli_w

        missing = [name for name, value in config.params.items() if value is None]
        if missing:
            raise UsageError(f"parameter {missing[0]} is None, which TOML cannot say: choose yaml or json")
        return f"# {_about(config)}\n{tomli_w.dumps(_without_none(config.to_json()))}"
    return _script(config)


def read_config(path: Path) -> Config:
    """The configuration of an exported file: YAML, JSON or TOML, told by its suffix.

    Raises:
        ConfigFileError: there is no such file, it cannot be read, or it is not a configuration.
    """
    form = SUFFIXES.get(path.suffix.lower())
    if form is None or form == "python":
        raise ConfigFileError(f"{path} is not a configuration: it must end in .yaml, .yml, .json or .toml")
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as exc:
        raise ConfigFileError(f"there is no file {path}: `hpo export -o {path.name}` writes one") from exc
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigFileError(f"{path} cannot be read: {_first_line(exc)}") from exc
    try:
        values = _parse(text, form)
    except _parse_errors() as exc:
        raise ConfigFileError(f"{path} is not valid {form.upper()}: {_first_line(exc)}") from exc
    if not isinstance(values, Mapping):
        raise ConfigFileError(f"{path} is not a configuration: it holds no names and values")
    try:
        if _file_version(values) > _FILE_VERSION:
            raise ConfigFileError(f"{path} was written by a newer hpo-service: upgrade this one")
        return Config.from_json(values)
    except ValueError as exc:
        raise ConfigFileError(f"{path} is not an exported configuration: {exc}") from exc


def check_params(params: Mapping[str, Any], space: Mapping[str, BaseDistribution], source: Path) -> None:
    """See that the parameters of the file `source` are a configuration of the objective's space.

    Raises:
        ConfigFileError: one is missing, unknown, of the wrong kind or out of its range; says which.
    """
    from hpo.names import did_you_mean
    from hpo.space_words import in_words

    for name in params:
        if name not in space:
            known = ", ".join(space) or "no parameter"
            raise ConfigFileError(
                f"{source}: the objective has no parameter {name!r}{did_you_mean(name, space)};"
                f" its space has {known}"
            )
    for name, distribution in space.items():
        if name not in params:
            raise ConfigFileError(f"{source}: its 'params' lack {name!r} ({in_words(distribution)})")
        if not is_within(params[name], distribution):
            raise ConfigFileError(
                f"{source}: parameter {name!r} is {params[name]!r}, but must be {in_words(distribution)}"
            )


def is_within(value: Any, distribution: BaseDistribution) -> bool:
    """Whether a parameter may have this value."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if isinstance(distribution, CategoricalDistribution):
        # For Python, though not for an objective, True is 1.
        return any(
            value == choice and isinstance(value, bool) == isinstance(choice, bool)
            for choice in distribution.choices
        )
    if isinstance(distribution, FloatDistribution | IntDistribution):
        kind = int if isinstance(distribution, IntDistribution) else (int, float)
        if isinstance(value, bool) or not isinstance(value, kind):
            return False
        return bool(distribution.low <= value <= distribution.high)
    return True


def _file_version(values: Mapping[str, Any]) -> int:
    given = values.get("hpo_config", _FILE_VERSION)
    if not isinstance(given, int) or isinstance(given, bool) or given < 1:
        raise ValueError(f"its 'hpo_config' cannot be {given!r}")
    return given


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


def _parse(text: str, form: Format) -> Any:
    if form == "yaml":
        import yaml

        return yaml.safe_load(text)
    if form == "toml":
        import tomllib

        return tomllib.loads(text)
    return json.loads(text)


def _parse_errors() -> tuple[type[Exception], ...]:
    import yaml

    # JSON's and TOML's are ValueErrors; deep nesting ends in the last.
    return (yaml.YAMLError, ValueError, RecursionError)


def _first_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


def _without_none(value: Any) -> Any:
    """TOML has no null."""
    if isinstance(value, Mapping):
        return {key: _without_none(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_without_none(item) for item in value]
    return value


def _about(config: Config) -> str:
    where = f"trial {config.trial} of study {config.study}: " if config.trial is not None else ""
    value = f" {config.metric} {numbers.metric(config.value)}" if config.value is not None else ""
    return f"{where}{config.objective}{value}"


def _script(config: Config) -> str:
    values = {
        "OBJECTIVE": config.objective,
        "PARAMS": dict(config.params),
        "EPOCHS": config.epochs,
        "SEED": config.seed,
        "DATA": {key: value for key, value in config.data.items() if value is not None},
    }
    constants = "\n".join(f"{name} = {value!r}" for name, value in values.items())
    exported_with = ", ".join(f"{name} {number}" for name, number in config.versions.items())
    about = json.dumps(f"{_about(config)}. Trains it again, one line an epoch.", ensure_ascii=False)
    return _SCRIPT.format(
        about=about,
        versions=exported_with,
        created=config.created,
        constants=constants,
        metric=repr(config.metric),
    )


_SCRIPT = '''\
"""Written by `hpo export`; needs hpo-service installed.

Data that is not bundled is looked for where `hpo data fetch` puts it, or in HPO_DATA_DIR.

Exported {created} with {versions}.
"""

import math
import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from hpo.errors import HpoError
from hpo.settings import Settings
from objectives.base import DataOptions
from objectives.loader import load
from objectives.local_run import LocalRun

ABOUT = {about}
METRIC = {metric}
{constants}


class PrintingRun(LocalRun):
    """Prints what is reported."""

    def report(self, **metrics):
        super().report(**metrics)
        shown = " ".join(f"{{name}}={{value:.4g}}" for name, value in metrics.items())
        print(f"epoch {{len(self.history)}}/{{self.total_epochs}} {{shown}}", flush=True)
        if not math.isfinite(metrics.get(METRIC, 0.0)):
            raise SystemExit(f"diverged: {{METRIC}} is {{metrics[METRIC]}}")


def main():
    print(ABOUT)
    objective = load(OBJECTIVE)()
    data_dir = str(Settings.from_environment().data_dir)
    objective.prepare(DataOptions(data_dir=data_dir, **DATA), final=False)
    run = PrintingRun(total_epochs=EPOCHS, seed=SEED, metric=METRIC)
    objective.train(dict(PARAMS), run)
    if run.history:
        print(f"{{METRIC}} = {{run.history[-1][METRIC]:.6g}}")


if __name__ == "__main__":
    try:
        main()
    except HpoError as error:
        sys.exit(" ".join(str(error).split()))
'''
