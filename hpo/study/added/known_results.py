"""`hpo import`: known results from a file become trials from which a study's sampler learns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from optuna.distributions import BaseDistribution
from optuna.trial import TrialState, create_trial

from hpo.errors import ConfigFileError
from hpo.search.space import params_problem
from hpo.search.spec import StudySpec
from hpo.study.catalog import find_study
from hpo.study.result_rows import is_complete, read_rows, result_of
from hpo.study.twin import optuna_twin
from objectives.choices import find, identity

if TYPE_CHECKING:
    from storage.engine import Database

IMPORT_ATTRIBUTE = "hpo_imported"
"""User attribute of an imported trial: the name of the file."""


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
    stored = find_study(database, study)
    spec = StudySpec.from_json(stored.spec_json)
    rows = read_rows(path, spec.space)
    results = []
    for place, row in enumerate(rows, start=1):
        try:
            if not is_complete(row):
                continue
            params, value = result_of(row, spec.space, spec.metric)
            problem = params_problem(params, spec.space)
        except ValueError as exc:
            problem = str(exc)
        if problem is not None:
            raise ConfigFileError(f"{path}: result {place}: {problem}; nothing was imported")
        results.append(({name: found[0] for name, found in _found(params, spec.space).items()}, value))
    twin = optuna_twin(database, stored)
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
