"""Results that only Optuna has are shown as such, and named where they are better than the best trial."""

from __future__ import annotations

import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.trial import create_trial

from hpo.errors import UsageError
from hpo.study.history import read_history
from hpo.study.monitoring.status import study_status
from hpo.study.notes import save_note
from hpo.study.results.added_trials import read_added
from hpo.study.results.best_trials import best_trial
from hpo.study.results.trials import sorted_trials, trial_rows
from storage.engine import Database
from tests.integration.stores import StoredStudy, claimed, train


def add(study: optuna.Study, x: float, value: float) -> None:
    study.add_trial(create_trial(params={"x": x}, distributions={"x": FloatDistribution(0, 1)}, value=value))


def test_added_result_is_listed_and_never_the_best(database: Database) -> None:
    study = StoredStudy(database)
    agent = study.agent()
    train(agent, claimed(agent))
    add(study.optuna, 0.25, 0.75)
    study.optuna.add_trial(
        create_trial(
            params={"x": 0.75},
            distributions={"x": FloatDistribution(0, 1)},
            value=0.0,
            system_attrs={"constraints:size": 0.5},
        )
    )
    assert study_status(database, "s").better_added is best_trial(database, "s").better_added is None
    add(study.optuna, 0.5, 0.25)
    study.optuna.enqueue_trial({"x": 0.125})
    rows = [(row.number, row.state, row.value, row.params.get("x")) for row in trial_rows(database, "s")[1:]]
    assert rows == [
        (1, "added", 0.75, 0.25),
        (2, "added", 0.0, 0.75),
        (3, "added", 0.25, 0.5),
        (4, "waiting", None, 0.125),
    ]
    assert [row.number for row in sorted_trials(database, "s", "value")] == [2, 3, 0, 1, 4]
    best, status = best_trial(database, "s"), study_status(database, "s")
    assert (best.number, status.best_number, status.finished) == (0, 0, 1)
    assert best.better_added == status.better_added
    assert str(best.better_added).startswith("trial 3 has a better loss, 0.25, but was added")
    history = read_history(database, "s")
    assert [trial.number for trial in history.trials] == [0]
    assert "trial 3 has a better loss" in str(history.status.better_added)


def test_note_is_kept_with_its_trial_and_shown(database: Database) -> None:
    study = StoredStudy(database)
    agent = study.agent()
    train(agent, claimed(agent))
    for text in ("first", "the good ü\0 " + "x" * 1900):
        save_note(database, "s", 0, text)
    (row,) = read_history(database, "s").trials
    assert row.note == r"the good ü\x00 " + "x" * 1900
    save_note(database, "s", 0, "")
    assert trial_rows(database, "s")[0].note == ""
    add(study.optuna, 0.25, 0.75)
    save_note(database, "s", 1, "added")
    assert trial_rows(database, "s")[1].note == "added"
    assert read_history(database, "s").notes == {1: "added"}
    for number, text in ((2, "a"), (0, "a" * 2001)):
        with pytest.raises(UsageError):
            save_note(database, "s", number, text)


def test_trials_of_the_service_are_not_added(database: Database) -> None:
    study = StoredStudy(database, budget=2)
    agent = study.agent()
    train(agent, claimed(agent))
    claim = claimed(agent)
    # The agent dies before it has noted that it created the trial.
    agent._search.create(claim)
    assert database.transaction(lambda c: read_added(c, study.optuna._study_id)) == []
