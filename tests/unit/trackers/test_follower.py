"""A follower of a study: outages of its tracker, runs that are refused, and several followers."""

from __future__ import annotations

import threading

import pytest

from hpo.trackers import follower as module
from hpo.trackers.follower import Follower, Round
from hpo.trackers.runs import Run
from hpo.trackers.testing import FakeFeed, FakeLock, FakePlace, FakeTracker
from tests.unit.trackers.runs import run


class Study:
    """A study, a place that it is logged to, and the messages of its followers."""

    def __init__(self) -> None:
        self.runs: dict[str, Run] = {}
        self.place = FakePlace()
        self.messages: list[tuple[str, str]] = []

    def follower(self) -> Follower:
        return Follower(
            "fake",
            lambda: FakeFeed(self.runs),
            lambda: FakeTracker(self.place),
            lambda _: FakeLock(self.place),
            lambda level, message: self.messages.append((level, message)),
        )

    def set(self, *runs: Run) -> None:
        self.runs |= {one.key: one for one in runs}

    def steps(self, number: int = 0) -> list[int]:
        return [epoch for epoch, _ in self.place.curves[f"0a1b2c3d-trial-{number}"]]


@pytest.fixture
def study() -> Study:
    return Study()


def end(follower: Follower) -> bool:
    closing = threading.Event()
    closing.set()
    return follower.run(closing, 0.0)


def test_epochs_are_logged_as_they_come(study: Study) -> None:
    follower = study.follower()
    for attempts, outcome in (([7], ""), ([7, 7], ""), ([7, 7], ""), ([7, 7, 7], "complete")):
        study.set(run(attempts, outcome))
        assert follower.look() is Round.CURRENT
    assert study.steps() == [1, 2, 3]
    assert study.place.ends["0a1b2c3d-trial-0"].results == {"hpo.value": 0.25}


def test_tracker_is_not_opened_before_there_is_something_to_log(study: Study) -> None:
    assert end(study.follower())
    assert study.place.opened == 0


def test_outage_costs_a_line_and_no_epoch(study: Study) -> None:
    follower = study.follower()
    study.set(run([7]))
    follower.look()
    study.place.down = True
    study.set(run([7, 7]))
    for _ in range(3):
        assert follower.look() is Round.BEHIND
    assert [level for level, _ in study.messages] == ["warning"]
    assert study.messages[0][1].startswith(
        "fake does not take all runs (ConnectionError: no answer): no trial"
    )
    study.place.down = False
    study.set(run([7, 7, 7], "complete"))
    assert follower.look() is Round.CURRENT
    assert study.messages[1:] == [("info", "fake takes all runs again")]
    assert study.steps() == [1, 2, 3]


def test_reason_of_an_outage_is_short_and_hides_passwords(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "long-token-of-mine")
    error = ConnectionError("http://user:secret@host/api refused long-token-of-mine " + "x" * 5000)
    reason = module.reason_of(error)
    assert reason.startswith("ConnectionError: http://user:***@host/api refused *** xxx")
    assert len(reason) <= module.LONGEST_REASON + 1


def test_end_gives_a_dead_tracker_up_and_the_next_follower_logs_the_rest(study: Study) -> None:
    study.place.down = True
    study.set(run([7], "complete"))
    assert not end(study.follower())
    study.place.down = False
    assert end(study.follower())
    assert study.steps() == [1]


def test_run_that_is_refused_does_not_keep_others_waiting(study: Study) -> None:
    follower = study.follower()
    study.place.refused = {"0a1b2c3d-trial-0"}
    study.set(*(run([7], "complete", number) for number in range(3)))
    while not study.place.curves:
        follower.look()
    assert study.steps(2) == [1]
    study.set(run([7], "complete", 3))
    assert not end(follower)
    assert study.steps(3) == [1]
    assert len(study.messages) == 1


def test_one_of_several_followers_works_and_another_takes_over(
    study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = study.follower(), study.follower()
    study.set(run([7]))
    assert (first.look(), second.look()) == (Round.CURRENT, Round.ELSEWHERE)
    study.set(run([7, 7]))
    assert (second.look(), first.look()) == (Round.ELSEWHERE, Round.CURRENT)
    first.close()
    study.set(run([7, 7, 7]))
    assert second.look() is Round.CURRENT
    assert study.steps() == [1, 2, 3]
    # One that ends does not wait for long for one that works on.
    monkeypatch.setattr(module, "OWNER_SECONDS", 0.0)
    assert end(study.follower())


def test_epochs_trained_again_appear_once(study: Study) -> None:
    follower = study.follower()
    for attempts in ([7, 7, 7], [7, 8], [7, 8, 8, 8]):
        study.set(run(attempts))
        follower.look()
    assert study.steps() == [1, 2, 3, 4]
