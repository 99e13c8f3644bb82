"""Rules for the rows of a backup: anyone may have written the file, and agents and commands trust the tables.

The database checks types and references; these rules check values whose meaning it does not know.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from datetime import MAXYEAR, MINYEAR, datetime
from typing import Any

from hpo.errors import UsageError
from hpo.options.defaults import PRUNERS, SAMPLERS
from hpo.options.fields import COUNT, NUMBER, Range
from hpo.options.hosts import BACKENDS
from hpo.outcomes import Outcome
from hpo.search.spec import StudySpec
from hpo.search.starting.design import Design
from objectives.data_options import FITS, TASKS, DataOptions
from objectives.runs.figures import parse
from objectives.trial_value import RULES
from storage.retrains import Source
from storage.studies import DESIRED_STATES, is_uid
from storage.study_dump import Row
from storage.study_tables import BY_NAME, KeptTable

_TIMES = ("_at", "_until", "datetime_start", "datetime_complete", "heartbeat")
"""Ends of the names of columns that hold a time."""

Rule = Callable[[Any], bool]

_ID = Range(1, 2**53)
"""Range of ids: above it a sequence would come near its end, and JSON readers lose digits."""


class RowInvalidError(ValueError):
    """A row breaks a rule; the message names table and column."""


def check_row(table: KeptTable, row: Row) -> None:
    """Check one row, whose columns have today's names.

    Raises:
        RowInvalidError: a column is missing or holds a value that no backup contains.
    """
    # A reservation may have no trial in Optuna yet.
    optional = "trial_id" if table.name == "hpo.trials" else None
    ids = ([table.own] if table.own else []) + [name for name in table.refers if name != optional]
    rules: dict[str, Rule] = {**dict.fromkeys(ids, _is_id), **_RULES.get(table.name, {})}
    for column, rule in rules.items():
        if column not in row or not _holds(rule, row[column]):
            raise RowInvalidError(f"a row of {table.name} has no valid {column}")
    for column, value in row.items():
        if column.endswith(_TIMES) and not _holds(_is_time, value):
            raise RowInvalidError(f"a row of {table.name} has no valid {column}")


def _holds(rule: Rule, value: Any) -> bool:
    try:
        return rule(value)
    # Values of any type and depth are passed to parsers that expect some.
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError):
        return False


def _whole(value: Any, bounds: Range) -> bool:
    return type(value) is int and bounds.low <= value <= bounds.high


def _is_id(value: Any) -> bool:
    return _whole(value, _ID)


def _is_time(value: Any) -> bool:
    """Whether it is a time in a year that Python knows: PostgreSQL knows more, and infinity."""
    return value is None or MINYEAR < datetime.fromisoformat(value).year < MAXYEAR


def _is_seconds(value: Any) -> bool:
    return type(value) in (int, float) and 0 <= value < math.inf


def _is_json(value: Any) -> bool:
    json.loads(value)
    return True


def _is_distribution(value: Any) -> bool:
    from optuna.distributions import json_to_distribution

    json_to_distribution(value)
    return True


def _is_number(value: Any) -> bool:
    """Whether it is a number as the tables store one: NaN and infinities are strings."""
    float(value)
    return type(value) in (int, float, str)


def _is_metrics(value: Any) -> bool:
    return all(_is_number(number) for number in value.values())


def _is_constraint(value: str) -> bool:
    try:
        return _is_text(value) and str(parse(value)) == value
    except UsageError:
        return False


def _is_outcome(value: Any) -> bool:
    return value is None or bool(Outcome(value))


def _is_spec(value: Any) -> bool:
    spec = StudySpec.from_json(value)
    data = spec.data
    return (
        _is_text(spec.objective)
        and _is_text(spec.metric)
        and isinstance(spec.objective_metric, str)
        and spec.direction in ("minimize", "maximize")
        and {spec.value, spec.objective_value} <= set(RULES)
        and all(_is_text(name) for name in (*spec.space, *spec.objective_space))
        and all(set(params) <= set(spec.space) for params in spec.first)
        and all(earlier.is_valid for earlier in spec.learned)
        and all(_is_constraint(bound) for bound in spec.constraints)
        and (spec.also_minimize is None or _is_text(spec.also_minimize))
        and spec.backend in ("", *BACKENDS)
        and _is_size(value.get("configurations"))
        and spec.sampler in SAMPLERS
        and spec.pruner in PRUNERS
        and _whole(spec.seed, NUMBER)
        and all(_whole(count, COUNT) for count in (spec.max_lost, spec.max_failed))
        and ((spec.open_space is True and spec.epochs is None) or _whole(spec.epochs, COUNT))
        and all(_whole(epoch, COUNT) and _whole(one_in, COUNT) for epoch, one_in in spec.rungs)
        and all(_whole(epoch, COUNT) for epoch in spec.restarts)
        and type(spec.takes_restarts) is bool
        and isinstance(spec.curve_model, bool)
        and _whole(spec.startup, NUMBER)
        and (spec.checkpoint_quota_bytes is None or _is_id(spec.checkpoint_quota_bytes))
        and all(
            limit is None or _whole(limit, COUNT) for limit in (spec.patience, spec.max_epochs, spec.repeats)
        )
        and (spec.stop_when_flat is None or type(spec.stop_when_flat) is bool)
        and _is_estimate(spec.estimate)
        and (spec.design is None or _is_design(spec.design, set(spec.space)))
        and all(
            value is None or (type(value) in (int, float) and math.isfinite(value))
            for value in (spec.target, spec.trial_timeout_seconds)
        )
        and (data.data_dir is None or isinstance(data.data_dir, str))
        and (data.limit is None or _whole(data.limit, COUNT))
        and (data.folds is None or (_whole(data.folds, COUNT) and data.folds > 1))
        and 0 < data.validation_fraction < 1
        and _whole(data.split_seed, NUMBER)
        and _is_images(data)
    )


def _is_size(value: Any) -> bool:
    """Whether it is the number of configurations of a finite space, or None."""
    return value is None or (type(value) is int and value > 0)


def _is_design(design: Design, names: set[str]) -> bool:
    return (
        _is_text(design.study)
        and len(design.points) > 0
        and all(set(point.params) <= names for point in design.points)
        and len(design.seeds) > 0
        and all(type(seed) is int and seed >= 0 for seed in design.seeds)
    )


def _is_estimate(value: Any) -> bool:
    """Whether an estimate has numbers alone, if there is one; those of another version have other names."""
    return value is None or all(
        number is None or (type(number) in (int, float) and math.isfinite(number))
        for number in value.values()
    )


def _is_images(data: DataOptions) -> bool:
    """Whether the options of a study's own images are such as a launch stores."""
    return (
        (data.source is None or _is_text(data.source))
        and data.task in (None, *TASKS)
        and (data.image_size is None or _whole(data.image_size, COUNT))
        and data.image_fit in FITS
        and (data.test_fraction is None or 0 < data.test_fraction < 1)
        and type(data.skip_unreadable) is bool
        and (data.digest == "" or data.digest.isalnum())
        and data.cache_dir is None
    )


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value)


def _is_statistic(value: Any) -> bool:
    """Whether it is a mean over the runs of a retrain, with its deviation and interval or None."""
    interval, deviation = value.get("interval95"), value.get("standard_deviation")
    return (
        _is_number(value["mean"])
        and (deviation is None or _is_number(deviation))
        and (interval is None or [_is_number(bound) for bound in interval] == [True, True])
    )


def _is_config(value: Any) -> bool:
    """Whether it is an exported configuration, as far as commands take it apart."""
    return isinstance(value, dict) and all(
        isinstance(value.get(part) or {}, dict) for part in ("params", "data", "device", "versions")
    )


def _is_results(value: Any) -> bool:
    """Whether it is the content of a retrain's metrics.json, with details, or None: it has not finished."""
    if value is None:
        return True
    history = value.get("detail", {}).get("history", [])
    return (
        bool(Source(value.get("source", Source.SEARCH)))
        and bool(value["runs"])
        and all(type(run["seed"]) is int for run in value["runs"])
        and all(map(_is_statistic, value["summary"].values()))
        and all(type(row["seed"]) is type(row["epoch"]) is int for row in history)
        and all(_is_number(row["seconds"]) and _is_metrics(row["metrics"]) for row in history)
    )


def _is_params(value: Any) -> bool:
    return value is None or isinstance(value, dict)


_ATTRIBUTES: Mapping[str, Rule] = {"key": _is_text, "value_json": _is_json}

_RULES: Mapping[str, Mapping[str, Rule]] = {
    "public.study_user_attributes": _ATTRIBUTES,
    "public.study_system_attributes": _ATTRIBUTES,
    "public.trial_user_attributes": _ATTRIBUTES,
    "public.trial_system_attributes": _ATTRIBUTES,
    "public.trial_params": {"distribution_json": _is_distribution, "param_name": _is_text},
    "hpo.studies": {
        "uid": is_uid,
        "spec": _is_spec,
        "budget": lambda value: _whole(value, NUMBER),
        "desired_state": lambda value: value in DESIRED_STATES,
        "agents_seen": lambda value: _whole(value, NUMBER),
    },
    "hpo.agents": {"versions": lambda value: all(isinstance(name, str) for name in value.values())},
    "hpo.trials": {
        "ordinal": lambda value: _whole(value, NUMBER),
        "number": lambda value: value is None or _whole(value, NUMBER),
        "outcome": _is_outcome,
        "epochs": lambda value: _whole(value, NUMBER),
        "params": _is_params,
    },
    "hpo.attempts": {"outcome": _is_outcome},
    "hpo.epochs": {
        "epoch": lambda value: _whole(value, COUNT),
        "metrics": _is_metrics,
        "seconds": _is_seconds,
    },
    "hpo.rungs": {
        "epoch": lambda value: _whole(value, COUNT),
        "score": lambda value: _is_number(value) and not math.isnan(float(value)),
    },
    "hpo.retrains": {
        "config": _is_config,
        "seeds": lambda value: all(type(seed) is int for seed in value),
        "metrics": _is_results,
    },
}
"""Rules by table and column; a rule that raises counts as broken."""


def check_tables(counts: Mapping[str, int]) -> None:
    """Check that a backup holds one study; `counts` are the numbers of rows by table.

    Raises:
        RowInvalidError: a table that has one row for a study has none, or several.
    """
    for name in ("public.studies", "public.study_directions", "hpo.studies"):
        if counts.get(name) != 1:
            raise RowInvalidError(f"it holds {counts.get(name, 0)} rows of {name}, not one")


def table_named(name: object) -> KeptTable:
    """Return the table of a row.

    Raises:
        RowInvalidError: backups contain no such table.
    """
    table = BY_NAME.get(name) if isinstance(name, str) else None
    if table is None:
        raise RowInvalidError(f"it contains rows of an unknown table, {name!r}")
    return table
