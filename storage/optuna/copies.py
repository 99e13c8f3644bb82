"""Trials of one study copied to another as history: only the data that sampler and pruner read."""

from __future__ import annotations

import json

from sqlalchemy import Connection, text

from storage.figures import FIGURE
from storage.optuna.closing import prune
from storage.optuna.trials import IMPORT_ATTRIBUTE

_PAIRS = (
    " FROM unnest(CAST(:ids AS integer[])) WITH ORDINALITY AS o (trial_id, place)"
    " JOIN public.trials n ON n.study_id = :new AND n.number = o.place - 1"
)
"""Each copied trial `o` with its copy `n`."""
_COLUMNS = {
    "trial_params": "param_name, param_value, distribution_json",
    "trial_values": "objective, value, value_type",
    "trial_intermediate_values": "step, intermediate_value, intermediate_value_type",
}
_CONSTRAINTS = "x.key LIKE 'constraints:%'"


def copy_history(connection: Connection, study_id: int, new_id: int, mark: str) -> int:
    """Copy the complete and pruned trials of a study to a new one without trials; return their number.

    Paused ones are pruned in the copy, with their reports so far, because it has none of their checkpoints. `mark` is
    their source; those that were imported keep their own.
    """
    ids = list(
        connection.execute(
            text(
                "SELECT trial_id FROM public.trials t WHERE study_id = :s AND (state IN ('COMPLETE', 'PRUNED')"
                " OR state = 'RUNNING' AND EXISTS (SELECT FROM hpo.trials h WHERE h.trial_id = t.trial_id"
                "  AND h.paused_epoch IS NOT NULL AND h.outcome IS NULL)) ORDER BY number"
            ),
            {"s": study_id},
        ).scalars()
    )
    keys = {"ids": ids, "new": new_id}
    connection.execute(
        text(
            "INSERT INTO public.trials (number, study_id, state, datetime_start, datetime_complete)"
            " SELECT o.place - 1, :new, t.state, t.datetime_start, t.datetime_complete"
            " FROM unnest(CAST(:ids AS integer[])) WITH ORDINALITY AS o (trial_id, place)"
            " JOIN public.trials t USING (trial_id) ORDER BY o.place"
        ),
        keys,
    )
    for table, columns in _COLUMNS.items():
        connection.execute(
            text(
                f"INSERT INTO public.{table} (trial_id, {columns}) SELECT n.trial_id, {columns} {_PAIRS}"
                f" JOIN public.{table} x ON x.trial_id = o.trial_id"
            ),
            keys,
        )
    connection.execute(
        text(
            "INSERT INTO public.trial_system_attributes (trial_id, key, value_json)"
            f" SELECT n.trial_id, x.key, x.value_json {_PAIRS}"
            f" JOIN public.trial_system_attributes x ON x.trial_id = o.trial_id AND {_CONSTRAINTS}"
        ),
        keys,
    )
    connection.execute(
        text(
            "INSERT INTO public.trial_user_attributes (trial_id, key, value_json)"
            f" SELECT n.trial_id, x.key, x.value_json {_PAIRS}"
            " JOIN public.trial_user_attributes x ON x.trial_id = o.trial_id AND starts_with(x.key, :figure)"
        ),
        {**keys, "figure": FIGURE},
    )
    connection.execute(
        text(
            "INSERT INTO public.trial_user_attributes (trial_id, key, value_json)"
            f" SELECT n.trial_id, :key, coalesce(x.value_json, :mark) {_PAIRS}"
            " LEFT JOIN public.trial_user_attributes x ON x.trial_id = o.trial_id AND x.key = :key"
        ),
        {**keys, "key": IMPORT_ATTRIBUTE, "mark": json.dumps(mark)},
    )
    paused = connection.execute(
        text("SELECT trial_id FROM public.trials WHERE study_id = :new AND state = 'RUNNING'"), keys
    )
    prune(connection, list(paused.scalars()))
    return len(ids)
