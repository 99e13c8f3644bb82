"""A finished and retrained study, inserted into the tables of Optuna and of hpo."""

from __future__ import annotations

from optuna.trial import create_trial

from storage.engine import Database
from tests.integration.retrained import add_retrain
from tests.integration.rows import SPACE, StudyRows


def finished_study(database: Database) -> StudyRows:
    """Insert a study with two complete trials, the first of which was retrained."""
    rows = StudyRows(database)
    agent = rows.agent(ended=1.0)
    for value in (0.9, 0.8):
        rows.study.add_trial(
            create_trial(
                value=value,
                params={"learning_rate": 0.01},
                distributions=SPACE,
                intermediate_values={1: value / 2, 2: value},
            )
        )
        trial_id = rows.study.get_trials()[-1]._trial_id
        reservation_id = rows.trial("complete", value, completed=2, trial_id=trial_id)
        attempt = rows.attempt(reservation_id, agent, ended=1.0, completed=2, outcome="complete")
        for epoch in (1, 2):
            rows.epoch(reservation_id, attempt, epoch, {"val_accuracy": value * epoch / 2, "loss": 1 / epoch})
    add_retrain(rows, [0.9, 0.91])
    return rows
