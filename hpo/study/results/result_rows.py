"""Rows of results in a CSV or JSON file: parameters and value, each in a column that can be no other's."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState

from hpo.errors import ConfigFileError
from hpo.files.bounded_text import read_text
from hpo.outcomes import Outcome
from hpo.search import choice_text
from hpo.study.results.columns import of_parameters
from hpo.study.results.trials import ADDED, OPEN
from objectives.spaces.choices import contains
from objectives.spaces.space import activity, parents_first

FILE_BYTES = 64 * 2**20
"""Size of the longest file that is read: 100,000 results of 20 parameters take a quarter of it."""

_PREFIXES = ("params_", "param_")
"""Prefixes of all parameters' columns: in Optuna's data frames, in ours."""
_STATES = tuple(dict.fromkeys((*Outcome, ADDED, *OPEN, *(state.name.lower() for state in TrialState))))
_JSON = "use JSON (hpo trials --json)"


class _Cell(str):
    """Text of a CSV file, whose type is not known."""

    __slots__ = ()


Row = Mapping[str, Any]
Space = Mapping[str, BaseDistribution]


def read_rows(path: Path, space: Space) -> list[Row]:
    """Return the rows of a file.

    Raises:
        ConfigFileError: the file cannot be read.
    """
    try:
        text = read_text(path, FILE_BYTES, "utf-8-sig")
    except (OSError, UnicodeDecodeError) as exc:
        reason = getattr(exc, "strerror", None) or exc
        raise ConfigFileError(f"{path} cannot be read ({reason}): give a CSV or JSON file in UTF-8") from exc
    try:
        if text.lstrip().startswith(("[", "{")):
            values = json.loads(text)
            rows: Sequence[Any] = values if isinstance(values, list) else [values]
        else:
            rows = _csv_rows(text)
    except (ValueError, csv.Error, RecursionError) as exc:
        raise ConfigFileError(
            f"{path} is neither JSON nor CSV ({exc}): write it as hpo trials --csv does"
        ) from exc
    if not rows or not all(isinstance(row, Mapping) for row in rows):
        raise ConfigFileError(
            f"{path} has no results: write a row for each, with 'value' and {', '.join(space)},"
            " or use the output of hpo trials --csv or --json"
        )
    return list(rows)


def _csv_rows(text: str) -> list[Row]:
    lines = [line for line in csv.reader(io.StringIO(text), strict=True) if line]
    headers = lines[0] if lines else []
    twice = next((header for header in headers if header and headers.count(header) > 1), None)
    if twice is not None:
        raise ValueError(f"column {twice!r} is there twice")
    for place, line in enumerate(lines[1:], start=1):
        if len(line) != len(headers):
            raise ValueError(f"result {place} has {len(line)} cells in {len(headers)} columns")
    return [dict(zip(headers, map(_Cell, line), strict=True)) for line in lines[1:]]


def is_complete(row: Row) -> bool:
    """Return whether a row is of a complete trial, by its state if it has one.

    Raises:
        ValueError: the state is not known.
    """
    state = str(row.get("state", Outcome.COMPLETE)).lower()
    if state not in _STATES:
        raise ValueError(
            f"its state is {state!r}, which no trial has: call the column of a parameter of that name 'param_state'"
        )
    return state in (Outcome.COMPLETE, ADDED)


def result_of(row: Row, space: Space, metric: str) -> tuple[dict[str, Any], float]:
    """Return the parameters of a row, which may lie outside the space, and its value.

    Raises:
        ValueError: the row has no value, or can be read in several ways; the message is the reason.
    """
    nested = row.get("params")
    columns = {} if isinstance(nested, Mapping) else _columns(row, space)
    params = dict(nested) if isinstance(nested, Mapping) else _params(row, columns, space)
    # A column of a parameter may be called like the metric.
    names = [name for name in dict.fromkeys(("value", metric)) if name not in columns.values()]
    value = next((number(row[name]) for name in names if name in row), None)
    if value is None:
        raise ValueError(f"it has no finite number as {' or '.join(map(repr, names))}")
    return params, value


def _params(row: Row, columns: Mapping[str, str], space: Space) -> dict[str, Any]:
    """Return the parameters of a row; the empty cell of an inactive one is none."""
    found: dict[str, Any] = {}
    for name in parents_first(space):
        if columns[name] in row:
            cell = row[columns[name]]
            if cell not in ("", None) or activity(space, name, found) is not False:
                found[name] = _parsed(name, cell, space[name])
    return {name: found[name] for name in space if name in found}


def _columns(row: Row, space: Space) -> dict[str, str]:
    """Return the column of each parameter: named as in Optuna's data frames, in ours, or in `hpo trials --csv`.

    Raises:
        ValueError: the row has all columns of two of them, such as `a` and `param_a`.
    """
    styles = [*({name: prefix + name for name in space} for prefix in _PREFIXES), of_parameters(space)]
    found = [sum(column in row for column in style.values()) for style in styles]
    fitting = [style for style, count in zip(styles, found, strict=True) if count == max(found)]
    if max(found) == len(space) and any(style != fitting[0] for style in fitting):
        name = next(name for name in space if len({style[name] for style in fitting}) > 1)
        several = " or ".join(dict.fromkeys(repr(style[name]) for style in fitting))
        raise ValueError(f"parameter {name!r} may be in column {several}: leave one out, or {_JSON}")
    return fitting[-1]


def _parsed(name: str, value: Any, distribution: BaseDistribution) -> Any:
    """Return the value that a cell means; itself if it means none of the distribution."""
    if not isinstance(value, str) or (not isinstance(value, _Cell) and contains(distribution, value)):
        return value
    value = str(value)
    if isinstance(distribution, CategoricalDistribution):
        places = choice_text.read_cell(distribution, value)
        if len(places) > 1:
            several = " or ".join(repr(distribution.choices[place]) for place in places)
            raise ValueError(f"parameter {name!r} is {value!r}, which may be {several}: {_JSON}")
        return distribution.choices[places[0]] if places else value
    found = number(value)
    if isinstance(distribution, IntDistribution) and found is not None and found.is_integer():
        return int(found)
    return found if isinstance(distribution, FloatDistribution) and found is not None else value


def number(value: Any) -> float | None:
    """Return a finite number, or the text of one, as a float; None if it is none."""
    if value is None or isinstance(value, bool):
        return None
    try:
        found = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return found if math.isfinite(found) else None
