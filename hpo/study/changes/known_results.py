"""`hpo import`: known results from a file become trials from which a study's sampler learns."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, create_trial

from hpo.errors import ConfigFileError
from hpo.search.space import params_problem
from hpo.search.spec import StudySpec
from hpo.study.catalog import find_study
from hpo.study.definition.twin import optuna_twin
from hpo.study.results.result_rows import is_complete, read_rows, result_of
from objectives.spaces.choices import find, identity
from objectives.spaces.space import in_space
from storage.optuna.trials import IMPORT_ATTRIBUTE

if TYPE_CHECKING:
    import optuna

    from storage.engine import Database


@dataclass(frozen=True)
class Imported:
    """Number of results of a file."""

    added: int
    known: int
    """Results that an earlier import has added."""
    skipped: int
    """Rows that are not complete trials."""
    outside: int = 0
    """Trials of another study that lie outside the space."""
    outside_example: str = ""
    """Description of one of them, with the reason."""


def import_results(database: Database, study: str, path: Path) -> Imported:
    """Add each complete result of a file to the study in Optuna, once; a wrong row changes nothing.

    Raises:
        UnknownStudyError: no study has that name.
        ConfigFileError: the file cannot be read, or a row is not a result of the study's space.
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
    trials = [
        create_trial(
            params=params,
            distributions=in_space(spec.space, params),
            value=value,
            user_attrs={IMPORT_ATTRIBUTE: path.name},
        )
        for params, value in results
    ]
    new = add_once(optuna_twin(database, stored), trials)
    return Imported(new, len(results) - new, len(rows) - len(results))


def add_once(twin: optuna.Study, trials: Sequence[FrozenTrial]) -> int:
    """Add the trials that no earlier import has added to a study, and return their number."""
    known = Counter(
        _key(trial) for trial in twin.get_trials(deepcopy=False) if IMPORT_ATTRIBUTE in trial.user_attrs
    )
    added = 0
    for trial in trials:
        if known[_key(trial)]:
            # Results that are equal are several.
            known[_key(trial)] -= 1
        else:
            twin.add_trial(trial)
            added += 1
    return added


def _found(params: Mapping[str, Any], space: Mapping[str, BaseDistribution]) -> dict[str, tuple[Any]]:
    return {name: found for name, value in params.items() if (found := find(space[name], value)) is not None}


def _key(trial: FrozenTrial) -> str:
    steps = [f"{step}: {value!r}" for step, value in sorted(trial.intermediate_values.items())]
    return identity([trial.params, trial.state.name, repr(trial.values), steps])
