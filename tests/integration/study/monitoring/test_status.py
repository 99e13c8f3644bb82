"""Status, trials and the best trial of studies inserted by hand."""

from __future__ import annotations

import json
import math

import pytest
from sqlalchemy import text

from hpo.errors import NoResultError
from hpo.export.best_config import build_config
from hpo.study.catalog import find_study, list_studies
from hpo.study.monitoring.status import study_status
from hpo.study.results.best_trials import best_trial
from hpo.study.results.trials import sorted_trials, trial_rows, why_ended
from storage import attempts
from storage.attempts import NEXT
from storage.engine import Database
from tests.integration.rows import StudyRows
from tests.integration.work import counted


def test_new_study_has_an_empty_status(database: Database) -> None:
    StudyRows(database)
    status = study_status(database, "demo")
    counts = (status.finished, status.running, status.waiting, status.failed)
    assert (status.state, counts) == ("idle", (0, 0, 0, 0))
    assert (status.best_number, status.mean_epochs, status.remaining_seconds) == (None, None, None)
    assert (status.elapsed_seconds, status.epochs_trained, status.agents, status.slots) == (0.0, 0, (), ())
    assert trial_rows(database, "demo") == []
    with pytest.raises(NoResultError, match="hpo status --study demo"):
        best_trial(database, "demo")


def test_status_counts_trials_by_state(database: Database) -> None:
    rows = StudyRows(database, budget=10)
    agent = rows.agent(started=100, seen=2)
    for outcome, value, completed in [
        ("complete", 0.9, 5),
        ("complete", 0.95, 5),
        ("pruned", 0.99, 2),
        ("diverged", math.nan, 1),
        ("oom", None, 0),
        ("bug", None, 0),
        ("lost", None, 3),
        ("hung", None, 1),
    ]:
        rows.trial(outcome, value, completed=completed)
    running = rows.trial(completed=2)
    first = rows.attempt(running, agent, started=90, ended=50, completed=1, outcome="lost", slot=1)
    rows.epoch(running, first, 1, {"val_accuracy": 0.5})
    second = rows.attempt(running, agent, started=30, completed=1, slot=1)
    rows.epoch(running, second, 2, {"val_accuracy": 0.75, "loss": "nan"})
    starting = rows.trial(number=None, trial_id=None)
    rows.attempt(starting, agent, started=1, slot=0)
    rows.trial(completed=1)  # released or lost, and not yet resumed
    rows.attempt(rows.trial(completed=3, paused_epoch=3), agent, ended=1.0, outcome="released")
    expired = rows.trial()
    rows.attempt(expired, agent, lease=-5)

    status = study_status(database, "demo")
    assert (status.finished, status.failed, status.running, status.waiting) == (5, 3, 2, 2)
    assert (status.paused, status.counts.paused, status.to_json()["paused"]) == (1, 1, 1)
    assert status.outcomes == {
        "complete": 2, "pruned": 1, "diverged": 1, "oom": 1, "bug": 1, "lost": 1, "hung": 1
    }  # fmt: skip
    assert (status.best_number, status.best_value) == (1, 0.95)
    assert status.best_params == {"learning_rate": 0.011}
    assert status.epochs_trained == 2
    assert status.mean_epochs == pytest.approx(13 / 5)
    assert status.state == "running"
    assert [(slot.number, slot.epoch, slot.metric, slot.slot, slot.device) for slot in status.slots] == [
        (None, 0, None, 0, "cpu:0"),
        (8, 2, 0.75, 1, "cpu:1"),
    ]
    assert status.slots[1].seconds == pytest.approx(30, abs=5)
    (alive,) = status.agents
    assert (alive.host, alive.pid, alive.slots) == ("here", 42, 2)
    assert alive.seen_seconds == pytest.approx(2, abs=5)
    assert status.elapsed_seconds == pytest.approx(100, abs=5)
    # 126 s of slots for 5 trials; 5 trials are left for 2 slots.
    assert status.remaining_seconds == pytest.approx(63, abs=5)
    json.dumps(status.to_json(), allow_nan=False)


def test_elapsed_time_is_the_union_of_agent_lifetimes(database: Database) -> None:
    rows = StudyRows(database)
    rows.agent(started=5000, ended=4900, seen=4900)
    rows.agent(started=4950, ended=4850, seen=4850)
    rows.agent(started=1000, seen=950)  # killed before it recorded its end
    assert study_status(database, "demo").elapsed_seconds == pytest.approx(200, abs=1)
    assert study_status(database, "demo").agents == ()


@pytest.mark.parametrize(
    ("control", "running", "finished", "condition"),
    [
        ("run", False, 0, "idle"),
        ("run", True, 0, "running"),
        ("pause", True, 0, "pausing"),
        ("pause", False, 0, "paused"),
        ("stop", True, 0, "stopping"),
        ("stop", False, 0, "stopped"),
        ("stop", False, 1, "finished"),
        ("run", True, 1, "running"),
    ],
)
def test_condition_follows_desired_state_and_running_trials(
    database: Database, control: str, running: bool, finished: int, condition: str
) -> None:
    rows = StudyRows(database, budget=1)
    rows.set(desired_state=control)
    for _ in range(finished):
        rows.trial("complete", 0.5)
    if running:
        rows.attempt(rows.trial(), rows.agent(ended=1))
    assert study_status(database, "demo").state == condition
    (summary,) = list_studies(database)
    assert summary.state == condition


def test_prepared_trials_are_not_running_and_held_ones_make_a_study_paused(database: Database) -> None:
    rows = StudyRows(database)
    agent = rows.agent()
    rows.attempt(rows.trial(), agent, started=60)
    rows.attempt(rows.trial(), agent, slot=2, device=NEXT)
    rows.set(desired_state="pause")
    status = study_status(database, "demo")
    assert (status.state, status.running, status.prepared, len(status.slots)) == ("pausing", 1, 1, 1)
    assert status.counts.held == 2
    database.transaction(lambda connection: attempts.hold(connection, 1))
    held = study_status(database, "demo")
    (summary,) = list_studies(database)
    assert (held.state, held.running, summary.state, summary.running) == ("paused", 1, "paused", 1)
    # The clock of the trial stands still, also after the pause.
    before, after = held.slots[0].seconds, study_status(database, "demo").slots[0].seconds
    assert before == pytest.approx(after, abs=1e-6)
    database.transaction(lambda connection: attempts.unhold(connection, agent))
    (resumed,) = study_status(database, "demo").slots
    assert before <= resumed.seconds < before + 5
    assert study_status(database, "demo").state == "pausing"


def test_remaining_time_follows_from_the_time_of_trials_and_the_slots(database: Database) -> None:
    rows = StudyRows(database, budget=5)
    agent = rows.agent(started=1000)
    rows.attempt(rows.trial("complete", 0.5, completed=5), agent, started=100, ended=60, outcome="complete")
    assert study_status(database, "demo").remaining_seconds == pytest.approx(4 * 40 / 2, abs=0.1)


def test_expired_lease_is_shown_until_the_trial_resumes(database: Database) -> None:
    rows = StudyRows(database)
    agent = rows.agent(seen=500.0)
    rows.attempt(rows.trial(), agent, lease=-10.0)
    rows.attempt(rows.trial(), agent, lease=60.0)
    found = study_status(database, "demo")
    assert (found.running, found.waiting) == (1, 1)
    (expired,) = found.expired
    assert (expired.number, expired.epoch, expired.slot, expired.host) == (0, 0, 0, "here")
    assert 10 <= expired.seconds < 60


def add_finished(rows: StudyRows, agent: int, trials: int) -> None:
    """Insert trials of five epochs with one attempt each."""
    rows.database.transaction(
        lambda connection: connection.execute(
            text(
                "WITH t AS (INSERT INTO hpo.trials (study_id, ordinal, number, trial_id, seed, params, outcome, epochs,"
                " value) SELECT :s, n, n, n, n, '{\"learning_rate\": 0.01}', 'complete', 5, n / 10000.0"
                " FROM generate_series(:from, :to) AS n RETURNING reservation_id),"
                " a AS (INSERT INTO hpo.attempts (reservation_id, agent_id, slot, device, host, epochs, lease_until,"
                " ended_at) SELECT reservation_id, :a, 0, 'cpu', 'here', 5, now(), now() FROM t"
                " RETURNING reservation_id, attempt_id)"
                " INSERT INTO hpo.epochs (reservation_id, epoch, attempt_id, metrics, seconds)"
                " SELECT reservation_id, e, attempt_id, '{\"val_accuracy\": 0.5}', 1"
                " FROM a, generate_series(1, 5) AS e"
            ),
            {"s": rows.study_id, "a": agent, "from": rows.count, "to": rows.count + trials - 1},
        )
    )
    rows.count += trials


def test_work_for_the_status_does_not_grow_with_the_trials(database: Database) -> None:
    """Bench `scale` measures the time."""
    rows = StudyRows(database, budget=20_000)
    agent = rows.agent()
    add_finished(rows, agent, 10)
    with counted(database) as few:
        study_status(database, "demo")
    with counted(database) as few_listed:
        assert len(trial_rows(database, "demo")) == 10
    add_finished(rows, agent, 4_990)
    with counted(database) as many:
        status = study_status(database, "demo")
    with counted(database) as many_listed:
        assert len(trial_rows(database, "demo")) == 5_000
    assert (status.finished, status.best_number, status.epochs_trained) == (5_000, 4_999, 25_000)
    assert (many.statements, many.fetched) == (few.statements, few.fetched)
    assert many_listed.statements == few_listed.statements
    assert many_listed.fetched - few_listed.fetched == 4_990
    # The server reads the 35,000 rows a few times, not once for each trial.
    assert many.read + many_listed.read < 4 * 35_000


def test_trial_rows_and_their_order(database: Database) -> None:
    rows = StudyRows(database)
    agent = rows.agent()
    complete = rows.trial("complete", 0.9, completed=5)
    rows.attempt(complete, agent, started=60, ended=40)
    rows.attempt(complete, agent, started=30, ended=20)
    rows.trial("bug", completed=1, error="ValueError: no\n such thing")
    rows.attempt(rows.trial(completed=2), agent, started=10)
    rows.trial(number=None, trial_id=None, params=None)
    rows.trial("complete", 0.95, completed=5)
    found = trial_rows(database, "demo")
    assert [(row.number, row.state, row.attempts) for row in found] == [
        (0, "complete", 2),
        (1, "bug", 0),
        (2, "running", 1),
        (4, "complete", 0),
        (None, "waiting", 0),
    ]
    assert found[0].seconds == pytest.approx(30, abs=1)
    assert found[1].why == "error after epoch 1: ValueError: no such thing"
    assert found[4].params == {}
    assert [row.number for row in sorted_trials(database, "demo", "value")][:2] == [4, 0]
    assert [row.number for row in sorted_trials(database, "demo", "seconds")][:2] == [0, 2]
    json.dumps([row.to_json() for row in found], allow_nan=False)


@pytest.mark.parametrize(
    ("ended", "reason"),
    [
        ((None, 3, 5, 0, None), ""),
        (("complete", 5, 5, 0, None), "trained to the end"),
        (("complete", 4, 5, 0, None), "ended itself after epoch 4"),
        (("pruned", 2, 5, 0, None), "pruned after epoch 2"),
        (("diverged", 0, 5, 0, None), "diverged in the first epoch"),
        (("oom", 1, 5, 0, "killed at 2 GiB"), "out of memory after epoch 1: killed at 2 GiB"),
        (("lost", 1, 5, 3, None), "lost 3 times"),
        (("lost", 1, 5, 3, "lost 3 times, the last time: killed"), "lost 3 times, the last time: killed"),
        (("new-kind", 1, 5, 0, None), "new-kind"),
    ],
)
def test_reason_for_the_end_of_a_trial(
    ended: tuple[str | None, int, int, int, str | None], reason: str
) -> None:
    assert why_ended(*ended) == reason


@pytest.mark.parametrize(("direction", "number"), [("maximize", 3), ("minimize", 1)])
def test_best_trial_is_complete_and_finite(database: Database, direction: str, number: int) -> None:
    rows = StudyRows(database, direction=direction)
    rows.trial("pruned", 0.99 if direction == "maximize" else 0.01)
    rows.trial("complete", 0.1)
    rows.trial("complete", 0.1)
    best = rows.trial("complete", 0.9, completed=2)
    rows.trial("complete", 0.9)
    rows.trial("complete", math.inf if direction == "maximize" else -math.inf)
    rows.trial("complete", math.nan)
    attempt = rows.attempt(best, rows.agent(), ended=1)
    rows.epoch(best, attempt, 1, {"val_accuracy": 0.8})
    rows.epoch(best, attempt, 2, {"val_accuracy": 0.9, "loss": "inf"})
    found = best_trial(database, "demo")
    assert (found.number, found.direction) == (number, direction)
    if direction == "maximize":
        assert found.metrics == {"val_accuracy": 0.9, "loss": math.inf}
        assert found.to_json()["metrics"]["loss"] == "inf"
        assert found.seed == 4


def test_best_trial_of_a_study_that_counts_by_the_best_epoch(database: Database) -> None:
    rows = StudyRows(database, direction="maximize")
    rows.set(spec={**find_study(database, "demo").spec_json, "value": "best"})
    trial = rows.trial("complete", 0.9, completed=3)
    attempt = rows.attempt(trial, rows.agent(), ended=1)
    for epoch, value in enumerate((0.8, 0.9, 0.7), 1):
        rows.epoch(trial, attempt, epoch, {"val_accuracy": value, "loss": float(epoch)})
    found = best_trial(database, "demo")
    assert (found.value, found.value_epoch, found.epochs) == (0.9, 2, 3)
    assert found.metrics == {"val_accuracy": 0.9, "loss": 2.0}
    config = build_config(database, "demo")
    assert (config.value_rule, config.value_epoch) == ("best", 2)
    assert study_status(database, "demo").value_rule == list_studies(database)[0].value_rule == "best"


def test_parameters_keep_the_order_of_the_space(database: Database) -> None:
    rows = StudyRows(database)
    names = ["weight_decay", "lr", "optimizer", "a"]
    rows.set(spec={**find_study(database, "demo").spec_json, "space": {name: {} for name in names}})
    rows.trial("complete", 0.5, params=dict.fromkeys(names, 1))
    assert list(find_study(database, "demo").spec_json["space"]) == names
    assert list(trial_rows(database, "demo")[0].params) == names
    assert list(best_trial(database, "demo").params) == names
