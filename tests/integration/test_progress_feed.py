"""The progress feed of a study that runs elsewhere."""

from __future__ import annotations

from hpo.engines.progress_feed import ProgressFeed
from storage.connection.retry import Retry
from storage.engine import Database
from tests.integration.rows import StudyRows, ago


def test_each_ended_trial_is_reported_once(database: Database) -> None:
    study = StudyRows(database, budget=10)
    agent = study.agent()
    old = study.trial("complete", 0.7, completed=5, decided_at=ago(20))
    study.attempt(old, agent, started=30, ended=20, outcome="complete")
    feed = ProgressFeed(database, study.study_id, study.name, Retry())
    running = study.trial(completed=2)
    attempt = study.attempt(running, agent, slot=1)
    study.epoch(running, attempt, 2, {"val_accuracy": 0.5})

    update = feed.poll()
    # Trials that had ended before are not reported.
    assert update.ended == []
    status = update.status
    assert (status.counts.finished, status.counts.running, len(status.agents)) == (1, 1, 1)
    assert status.best == (0, 0.7, {"learning_rate": 0.01})
    (slot,) = status.slots
    assert (slot.host, slot.device, slot.number, slot.epoch, slot.metric) == ("here", "cpu:1", 1, 2, 0.5)
    assert status.epochs_per_trial == 5

    done = study.trial("pruned", completed=3, decided_at=ago(0))
    study.attempt(done, agent, started=12, ended=2, outcome="pruned")
    # Committed later than its time stamp.
    study.trial("bug", error="it broke", decided_at=ago(10))
    ended = feed.poll().ended
    assert [(end.number, end.outcome, end.epochs, end.error) for end in ended] == [
        (3, "bug", 0, "it broke"),
        (2, "pruned", 3, ""),
    ]
    assert 9.5 < ended[1].seconds < 10.5
    assert feed.poll().ended == []
