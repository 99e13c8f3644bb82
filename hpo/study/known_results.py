"""`hpo import`: known results from a file become trials from which a study's sampler learns."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState, create_trial

from hpo.errors import ConfigFileError
from hpo.search.space import params_problem
from hpo.search.spec import StudySpec
from hpo.study.catalog import find_study
from objectives.choices import find, identity

if TYPE_CHECKING:
    from storage.engine import Database

IMPORT_ATTRIBUTE = "hpo_imported"
"""User attribute of an imported trial: the name of the file."""
_PREFIXES = ("params_", "param_", "")
"""Prefixes of parameters' columns: in Optuna's data frames, in ours, in `hpo trials --csv`."""


@dataclass(frozen=True)
class Imported:
    """Number of results of a file."""

    added: int
    known: int
    """Results that an earlier import has added."""
    skipped: int
    """Rows that are no complete trial."""


def import_results(database: Database, study: str, path: Path) -> Imported:
    """Add each complete result of a file to the study in Optuna, once; a wrong row changes nothing.

    Raises:
        UnknownStudyError: no study has that name.
        ConfigFileError: the file cannot be read, or a row is no result of the study's space.
    """
    spec = StudySpec.from_json(find_study(database, study).spec_json)
    rows = _read(path, spec)
    results = []
    for place, row in rows:
        if str(row.get("state", "complete")).lower() not in ("complete", "added"):
            continue
        params, value = _params_of(row, spec.space), _number(row.get("value", row.get(spec.metric)))
        problem = params_problem(params, spec.space)
        if value is None:
            problem = f"it has no finite number as 'value' or {spec.metric!r}"
        if problem is not None:
            raise ConfigFileError(f"{path}: {place}: {problem}; nothing was imported")
        results.append(({name: found[0] for name, found in _found(params, spec.space).items()}, value))
    twin = optuna.load_study(study_name=study, storage=database.optuna)
    known = {
        _key(trial.params, trial.values[0])
        for trial in twin.get_trials(deepcopy=False, states=[TrialState.COMPLETE])
        if IMPORT_ATTRIBUTE in trial.user_attrs
    }
    new = [(params, value) for params, value in results if _key(params, value) not in known]
    for params, value in new:
        twin.add_trial(
            create_trial(
                params=params,
                distributions=dict(spec.space),
                value=value,
                user_attrs={IMPORT_ATTRIBUTE: path.name},
            )
        )
    return Imported(len(new), len(results) - len(new), len(rows) - len(results))


def _found(params: Mapping[str, Any], space: Mapping[str, BaseDistribution]) -> dict[str, tuple[Any]]:
    return {name: found for name, dist in space.items() if (found := find(dist, params[name])) is not None}


def _key(params: Mapping[str, Any], value: float | None) -> str:
    return identity([dict(params), value])


def _read(path: Path, spec: StudySpec) -> list[tuple[str, Mapping[str, Any]]]:
    """Return the rows of a file, each with its place in it."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigFileError(f"{path} cannot be read: {getattr(exc, 'strerror', None) or exc}") from exc
    try:
        if text.lstrip().startswith(("[", "{")):
            values = json.loads(text)
            rows: Sequence[Any] = values if isinstance(values, list) else [values]
        else:
            rows = list(csv.DictReader(io.StringIO(text), strict=True))
    except (ValueError, csv.Error, RecursionError) as exc:
        raise ConfigFileError(f"{path} is neither JSON nor CSV: {exc}") from exc
    if not rows or not all(isinstance(row, Mapping) for row in rows):
        raise ConfigFileError(
            f"{path} has no results: write a row for each, with 'value' and {', '.join(spec.space)},"
            " or use the output of hpo trials --csv or --json"
        )
    return [(f"result {place}", row) for place, row in enumerate(rows, start=1)]


def _params_of(row: Mapping[str, Any], space: Mapping[str, BaseDistribution]) -> dict[str, Any]:
    """Return the parameters of a row; text of a CSV file is read as the type of the parameter."""
    nested = row.get("params")
    if isinstance(nested, Mapping):
        return dict(nested)
    found = {}
    for name, distribution in space.items():
        column = next((prefix + name for prefix in _PREFIXES if prefix + name in row), None)
        if column is not None:
            found[name] = _parsed(row[column], distribution)
    return found


def _parsed(value: Any, distribution: BaseDistribution) -> Any:
    """Return the value that a cell of a CSV file means; itself if it means none of the distribution."""
    if not isinstance(value, str):
        return value
    if isinstance(distribution, CategoricalDistribution):
        same = [choice for choice in distribution.choices if value in _texts(choice)]
        return same[0] if len(same) == 1 else value
    number = _number(value)
    if isinstance(distribution, IntDistribution) and number is not None and number.is_integer():
        return int(number)
    return number if isinstance(distribution, FloatDistribution) and number is not None else value


def _texts(choice: Any) -> tuple[str, ...]:
    empty = ("",) if choice is None else ()
    return (str(choice), json.dumps(choice), *empty)


def _number(value: Any) -> float | None:
    if value is None or isinstance(value, bool):
        return None
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None
