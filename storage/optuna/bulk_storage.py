"""Optuna's storage, which reads trials in one statement where Optuna sends seven and maps each row to an object."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Container, Sequence
from datetime import UTC, datetime
from typing import Any

from optuna.distributions import BaseDistribution, json_to_distribution
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import Row

from storage.connection.autocommit import autocommitting
from storage.connection.prepared import prepared

_TRIALS = (
    "SELECT t.trial_id, t.number, CAST(t.state AS text) AS state, t.datetime_start, t.datetime_complete,"
    " (SELECT json_agg(json_build_array(param_name, param_value, distribution_json) ORDER BY param_id)"
    "   FROM public.trial_params p WHERE p.trial_id = t.trial_id) AS params,"
    " (SELECT json_agg(json_build_array(value, value_type) ORDER BY objective)"
    "   FROM public.trial_values v WHERE v.trial_id = t.trial_id) AS values,"
    " (SELECT json_agg(json_build_array(key, value_json) ORDER BY trial_user_attribute_id)"
    "   FROM public.trial_user_attributes u WHERE u.trial_id = t.trial_id) AS user_attrs,"
    " (SELECT json_agg(json_build_array(key, value_json) ORDER BY trial_system_attribute_id)"
    "   FROM public.trial_system_attributes a WHERE a.trial_id = t.trial_id) AS system_attrs,"
    " (SELECT json_agg(json_build_array(step, intermediate_value, intermediate_value_type)"
    "   ORDER BY trial_intermediate_value_id)"
    "   FROM public.trial_intermediate_values i WHERE i.trial_id = t.trial_id) AS reports"
)
"""The columns of trials `t`, each with all that Optuna's other tables hold of it."""

_ONE = prepared(f"{_TRIALS} FROM public.trials t WHERE t.trial_id = :t")
_OF_STUDY = f"{_TRIALS} FROM public.studies s LEFT JOIN public.trials t ON t.study_id = s.study_id AND"
_ALL = prepared(f"{_OF_STUDY} true WHERE s.study_id = :s ORDER BY t.trial_id")
_NEWER = prepared(
    f"{_OF_STUDY} (t.trial_id > :after OR t.trial_id = ANY(:ids)) WHERE s.study_id = :s ORDER BY t.trial_id"
)

_NOT_FINITE = {"NAN": math.nan, "INF_POS": math.inf, "INF_NEG": -math.inf}


class BulkStorage(RDBStorage):
    """Optuna's storage on PostgreSQL; what it returns and writes is that of Optuna's own."""

    def get_trial(self, trial_id: int) -> FrozenTrial:
        """Return a trial; raise KeyError if there is none."""
        with autocommitting(self.engine) as connection:
            row = connection.execute(_ONE, {"t": trial_id}).one_or_none()
        if row is None:
            raise KeyError(f"no trial has the id {trial_id}")
        return _trial(row)

    def _get_trials(
        self,
        study_id: int,
        states: Container[TrialState] | None,
        included_trial_ids: set[int],
        trial_id_greater_than: int,
    ) -> list[FrozenTrial]:
        """Return the trials of a study with these ids or larger ones; raise KeyError if there is no study."""
        values: dict[str, Any] = {"s": study_id}
        if trial_id_greater_than >= 0:
            values |= {"after": trial_id_greater_than, "ids": list(included_trial_ids)}
        with autocommitting(self.engine) as connection:
            rows = connection.execute(_NEWER if len(values) > 1 else _ALL, values).all()
        if not rows:
            raise KeyError(f"no study has the id {study_id}")
        return [
            _trial(row)
            for row in rows
            if row.trial_id is not None and (states is None or TrialState[row.state] in states)
        ]


def _trial(row: Row[Any]) -> FrozenTrial:
    params: dict[str, Any] = {}
    distributions: dict[str, BaseDistribution] = {}
    for name, value, stored in row.params or ():
        distributions[name] = _distribution(stored)
        params[name] = distributions[name].to_external_repr(float(value))
    return FrozenTrial(
        number=row.number,
        state=TrialState[row.state],
        value=None,
        values=[_value(*stored) for stored in row.values or ()] or None,
        datetime_start=_local(row.datetime_start),
        datetime_complete=_local(row.datetime_complete),
        params=params,
        distributions=distributions,
        user_attrs=_attributes(row.user_attrs),
        system_attrs=_attributes(row.system_attrs),
        intermediate_values={step: _value(value, kind) for step, value, kind in row.reports or ()},
        trial_id=row.trial_id,
    )


_distribution = functools.lru_cache(maxsize=10_000)(json_to_distribution)
"""The distribution of a JSON text, shared by all trials that have it."""


def _attributes(stored: Sequence[tuple[str, str]] | None) -> dict[str, Any]:
    return {key: json.loads(value) for key, value in stored or ()}


def _value(stored: float | None, kind: str) -> float:
    return _NOT_FINITE[kind] if stored is None or kind != "FINITE" else float(stored)


def _local(stored: datetime | None) -> datetime | None:
    """Return the local time, without a time zone, of a stored time, which is of UTC."""
    return None if stored is None else stored.replace(tzinfo=UTC).astimezone().replace(tzinfo=None)
