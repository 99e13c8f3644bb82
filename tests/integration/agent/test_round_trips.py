"""The round trips to the database that a trial costs, so that none is added unnoticed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from sqlalchemy import event

from hpo.outcomes import Outcome
from storage.engine import Database
from tests.integration.stores import StoredStudy, claimed, report
from tests.specs import spec


@contextmanager
def counted(database: Database) -> Iterator[list[str]]:
    """Collect the statements in this block, with the begin and the end of each transaction."""
    found: list[str] = []

    def execute(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        found.append(statement)

    def commit(_: object) -> None:
        found.extend(["BEGIN", "COMMIT"])

    listeners = {"before_cursor_execute": execute, "commit": commit}
    engines = database._engines()
    for engine in engines:
        for name, listener in listeners.items():
            event.listen(engine, name, listener)
    try:
        yield found
    finally:
        for engine in engines:
            for name, listener in listeners.items():
                event.remove(engine, name, listener)


@pytest.mark.parametrize("outcome", [Outcome.COMPLETE, Outcome.PRUNED, Outcome.BUG])
def test_trial_costs_six_round_trips(database: Database, outcome: Outcome) -> None:
    study = StoredStudy(database, spec(sampler="tpe", startup=1), budget=3)
    store = study.agent()
    for _ in range(2):
        costs = {}
        with counted(database) as statements:
            claim = claimed(store)
            costs["claim"] = len(statements)
        with counted(database) as statements:
            trial_id, _, params = store.sample(claim)
            costs["sample"] = len(statements)
        with counted(database) as statements:
            store.begin(claim.attempt_id, 1, 0)
            report(store, claim, trial_id, params["x"])
            store.settle(claim.attempt_id, outcome, params["x"])
            costs["begin, record and settle"] = len(statements)
    assert costs == {"claim": 1, "sample": 2, "begin, record and settle": 3}
