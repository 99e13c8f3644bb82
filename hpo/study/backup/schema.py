"""Rules for the rows of a backup: anyone may have written the file, and agents and commands trust the tables.

The database checks types and references; these rules check values whose meaning it does not know.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from datetime import MAXYEAR, MINYEAR, datetime
from typing import Any

from hpo.options.fields import COUNT, NUMBER
from hpo.outcomes import Outcome
from hpo.study.backup.spec import is_spec
from hpo.study.backup.values import is_id, is_text, whole
from storage.retrains import Source
from storage.studies import DESIRED_STATES, is_uid
from storage.study_dump import Row
from storage.study_tables import BY_NAME, KeptTable

_TIMES = ("_at", "_until", "datetime_start", "datetime_complete", "heartbeat")
"""Ends of the names of columns that hold a time."""

Rule = Callable[[Any], bool]


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
    rules: dict[str, Rule] = {**dict.fromkeys(ids, is_id), **_RULES.get(table.name, {})}
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


def _is_outcome(value: Any) -> bool:
    return value is None or bool(Outcome(value))


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


_ATTRIBUTES: Mapping[str, Rule] = {"key": is_text, "value_json": _is_json}

_RULES: Mapping[str, Mapping[str, Rule]] = {
    "public.study_user_attributes": _ATTRIBUTES,
    "public.study_system_attributes": _ATTRIBUTES,
    "public.trial_user_attributes": _ATTRIBUTES,
    "public.trial_system_attributes": _ATTRIBUTES,
    "public.trial_params": {"distribution_json": _is_distribution, "param_name": is_text},
    "hpo.studies": {
        "uid": is_uid,
        "spec": is_spec,
        "budget": lambda value: whole(value, NUMBER),
        "desired_state": lambda value: value in DESIRED_STATES,
        "agents_seen": lambda value: whole(value, NUMBER),
    },
    "hpo.agents": {"versions": lambda value: all(isinstance(name, str) for name in value.values())},
    "hpo.trials": {
        "ordinal": lambda value: whole(value, NUMBER),
        "number": lambda value: value is None or whole(value, NUMBER),
        "outcome": _is_outcome,
        "epochs": lambda value: whole(value, NUMBER),
        "params": _is_params,
    },
    "hpo.attempts": {"outcome": _is_outcome},
    "hpo.epochs": {
        "epoch": lambda value: whole(value, COUNT),
        "metrics": _is_metrics,
        "seconds": _is_seconds,
    },
    "hpo.rungs": {
        "epoch": lambda value: whole(value, COUNT),
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
