"""The trials of a study in PostgreSQL, followed for a tracker."""

from __future__ import annotations

import threading

import pytest
from sqlalchemy import text

from hpo.outcomes import Outcome
from hpo.trackers.feed import TrialFeed, read_study
from hpo.trackers.follower import Follower, Round
from hpo.trackers.process import DatabaseLock
from hpo.trackers.testing import FakePlace, FakeTracker
from hpo.trainer.messages import EpochRecord
from storage.connection.retry import Retry
from storage.engine import Database
from tests.integration.stores import StoredStudy, begun, report, train

RETRY = Retry(1.0)


class Followed(StoredStudy):
    """A study of two trials that followers log to one place."""

    def __init__(self, database: Database) -> None:
        super().__init__(database, budget=2)
        self.place = FakePlace()
        study = read_study(database, self.optuna._study_id, RETRY)
        assert study is not None
        self.study = study

    def follower(self) -> Follower:
        return Follower(
            "fake",
            lambda: TrialFeed(self.database, self.optuna._study_id, self.study, RETRY),
            lambda: FakeTracker(self.place),
            lambda identity: DatabaseLock(self.database, identity),
            lambda *message: pytest.fail(str(message)),
        )

    def steps(self, number: int = 0) -> list[int]:
        return [epoch for epoch, _ in self.place.curves[f"{self.study.uid}-trial-{number}"]]


@pytest.fixture
def followed(database: Database) -> Followed:
    return Followed(database)


def test_trial_that_moves_to_another_agent_has_each_epoch_once(followed: Followed) -> None:
    follower, first = followed.follower(), followed.agent()
    claim, trial_id = begun(first)
    assert follower.look() is Round.CURRENT
    assert followed.place.opened == 0
    for epoch in (1, 2, 3):
        report(first, claim, trial_id, epoch=epoch)
    follower.look()
    # Another agent trains it again from its first checkpoint, while this follower looks now and then.
    followed.expire_leases()
    second = followed.agent()
    second.reap_expired()
    again = second.claim(0, "cpu:0")
    second.sample(again)
    second.begin(again.attempt_id, 1, 1)
    second.record(again.attempt_id, trial_id, [EpochRecord(1, {"loss": 0.5}, 0.1)])
    follower.look()
    for epoch in (2, 3, 4):
        report(second, again, trial_id, loss=0.1 * epoch, epoch=epoch)
    follower.look()
    second.settle(again.attempt_id, Outcome.COMPLETE, 0.4)
    assert follower.look() is Round.CURRENT
    assert followed.steps() == [1, 2, 3, 4]
    (end,) = followed.place.ends.values()
    assert (end.outcome, end.results, end.params) == ("complete", {"hpo.value": 0.4}, dict(again.params))
    assert end.about.keys() == {"trial", "seed", "objective", "host", "device"}


def test_later_follower_logs_what_is_missing_and_nothing_twice(followed: Followed) -> None:
    agent = followed.agent()
    train(agent, agent.claim(0, "cpu:0"))
    first, second = followed.follower(), followed.follower()
    assert (first.look(), second.look()) == (Round.CURRENT, Round.ELSEWHERE)
    first.close()
    train(agent, agent.claim(0, "cpu:0"))
    closing = threading.Event()
    closing.set()
    assert second.run(closing, 0.0)
    assert (followed.steps(0), followed.steps(1)) == ([1, 2], [1, 2])


def test_lock_is_free_when_the_session_of_its_holder_has_ended(followed: Followed) -> None:
    held, wanted = (DatabaseLock(followed.database, "place") for _ in range(2))
    assert (held.acquire(), held.acquire(), wanted.acquire()) == (True, True, False)
    other = DatabaseLock(followed.database, "another place")
    assert other.acquire()
    other.release()
    with followed.database.engine.begin() as connection:
        connection.execute(
            text(
                "SELECT pg_terminate_backend(l.pid) FROM pg_locks l JOIN pg_database d ON d.oid = l.database"
                " WHERE l.locktype = 'advisory' AND d.datname = current_database()"
            )
        )
    # The session ends soon after the signal.
    while not wanted.acquire():
        pass
    # The first holder notices that it has lost the lock.
    assert not held.acquire()
    wanted.release()
    assert held.acquire()
    held.release()
