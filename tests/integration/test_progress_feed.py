"""What is read of a study that runs elsewhere."""

from __future__ import annotations

from hpo.engines.progress_feed import Feed
from storage.engine import Database
from storage.retry import Retry
from tests.integration.rows import StudyRows, ago


def test_each_trial_is_told_of_once_when_it_has_ended(database: Database) -> None:
    study = StudyRows(database, budget=10)
    agent = study.agent()
    old = study.trial("complete", 0.7, completed=5, decided_at=ago(20))
    study.attempt(old, agent, started=30, ended=20, outcome="complete")
    feed = Feed(database, study.study_id, study.name, Retry())
    running = study.trial(completed=2)
    attempt = study.attempt(running, agent, slot=1)
    study.epoch(running, attempt, 2, {"val_accuracy": 0.5})

    news = feed.news()
    # What had ended before is no news.
    assert news.ended == []
    assert (news.snapshot.counts.finished, news.snapshot.counts.running, len(news.hosts)) == (1, 1, 1)
    assert news.snapshot.best == (0, 0.7, {"learning_rate": 0.01})
    (slot,) = news.slots
    assert (slot.device, slot.trial, slot.epoch, slot.epochs, slot.value) == ("here cpu:1", 1, 2, 5, 0.5)

    done = study.trial("pruned", completed=3, decided_at=ago(0))
    study.attempt(done, agent, started=12, ended=2, outcome="pruned")
    # Committed later than its time says.
    study.trial("bug", error="it broke", decided_at=ago(10))
    ended = feed.news().ended
    assert [(end.number, end.outcome, end.epochs, end.error) for end in ended] == [
        (3, "bug", 0, "it broke"),
        (2, "pruned", 3, ""),
    ]
    assert 9.5 < ended[1].seconds < 10.5
    assert feed.news().ended == []
