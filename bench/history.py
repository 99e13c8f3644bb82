"""Fills a study with finished trials in the service's and Optuna's tables, as if the service had run them.

It uses plain SQL, so that 10,000 trials take seconds. Each has three epochs; one in three was pruned after the first.
"""

from __future__ import annotations

import json

from optuna.distributions import distribution_to_json
from sqlalchemy import Connection, text

from hpo.study.definition.launched_study import LaunchedStudy
from storage.agents import join, new_agent_id
from storage.optuna.trials import RESERVATION_ATTRIBUTE

_HISTORY = """
CREATE TEMP TABLE history ON COMMIT DROP AS
SELECT n, n % 3 = 2 AS pruned, floor(random() * 3)::int AS batch_size, floor(random() * 2)::int AS optimizer,
       power(10, -4 + 3 * random()) AS learning_rate, 0.6 * random() AS dropout, random() AS value
FROM generate_series(0, :n - 1) AS n;

INSERT INTO trials (number, study_id, state, datetime_start, datetime_complete)
SELECT n, :s, CASE WHEN pruned THEN 'PRUNED' ELSE 'COMPLETE' END::trialstate,
       now() AT TIME ZONE 'UTC', now() AT TIME ZONE 'UTC'
FROM history ORDER BY n;

INSERT INTO trial_values (trial_id, objective, value, value_type)
SELECT trial_id, 0, value, 'FINITE'
FROM history JOIN trials ON number = n AND study_id = :s WHERE NOT pruned;

INSERT INTO trial_intermediate_values (trial_id, step, intermediate_value, intermediate_value_type)
SELECT trial_id, step, value + 1.0 / step, 'FINITE'
FROM history JOIN trials ON number = n AND study_id = :s, generate_series(1, 3) AS step
WHERE step = 1 OR NOT pruned;

INSERT INTO trial_params (trial_id, param_name, param_value, distribution_json)
SELECT trial_id, name, CASE name WHEN 'batch_size' THEN batch_size WHEN 'optimizer' THEN optimizer
                                 WHEN 'learning_rate' THEN learning_rate ELSE dropout END, distribution
FROM history JOIN trials ON number = n AND study_id = :s,
     json_each_text(CAST(:space AS json)) AS space (name, distribution);

INSERT INTO hpo.trials (study_id, ordinal, trial_id, number, params, seed, epochs, outcome, value,
  told_optuna, decided_at)
SELECT :s, n, trial_id, n,
       json_build_object('batch_size', (ARRAY[64, 128, 256])[batch_size + 1],
                          'optimizer', (ARRAY['sgd', 'adam'])[optimizer + 1],
                          'learning_rate', learning_rate, 'dropout', dropout),
       n, CASE WHEN pruned THEN 1 ELSE 3 END, CASE WHEN pruned THEN 'pruned' ELSE 'complete' END, value, true, now()
FROM history JOIN trials ON number = n AND study_id = :s;

INSERT INTO trial_user_attributes (trial_id, key, value_json)
SELECT trial_id, :attribute, reservation_id::text FROM hpo.trials WHERE study_id = :s;

INSERT INTO hpo.attempts (reservation_id, agent_id, slot, device, host, epochs, outcome, lease_until, ended_at)
SELECT reservation_id, :agent, 0, 'cpu', 'bench', epochs, outcome, now(), now() FROM hpo.trials WHERE study_id = :s;

INSERT INTO hpo.epochs (reservation_id, epoch, attempt_id, metrics, seconds)
SELECT reservation_id, epoch, attempt_id, jsonb_build_object('loss', random()), 1
FROM hpo.trials JOIN hpo.attempts USING (reservation_id), generate_series(1, 3) AS epoch
WHERE study_id = :s AND epoch <= trials.epochs;
"""


def fill(connection: Connection, study: LaunchedStudy, trials: int) -> None:
    """Insert finished trials into an empty study with the space of `bench.idle.Nothing`."""
    agent = new_agent_id(connection)
    join(connection, agent, study.study_id, "bench", 0, "boot/pid:0:0", 1, {})
    connection.execute(text("UPDATE hpo.agents SET ended_at = now() WHERE agent_id = :a"), {"a": agent})
    space = {name: distribution_to_json(distribution) for name, distribution in study.spec.space.items()}
    values = {
        "n": trials,
        "s": study.study_id,
        "agent": agent,
        "attribute": RESERVATION_ATTRIBUTE,
        "space": json.dumps(space),
    }
    for statement in _HISTORY.split(";\n"):
        if statement.strip():
            names = {name: value for name, value in values.items() if f":{name}" in statement}
            connection.execute(text(statement), names)
    connection.execute(text("ANALYZE"))
