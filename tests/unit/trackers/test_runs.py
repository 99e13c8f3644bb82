"""The part of a run that a tracker lacks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from hpo.trackers.runs import Confusion, Logged, Run, news_of
from hpo.trackers.tracker import LoggedFiles
from tests.unit.trackers.runs import run


def logged(*runs: Run) -> Logged:
    """Return the part that a tracker has after it was given these states of a run."""
    part = Logged()
    for state in runs:
        news = news_of(state, part)
        part = part if news is None else news.after
    return part


@pytest.mark.parametrize(
    ("before", "now", "new", "unseen", "rewound"),
    [
        pytest.param([], [7, 7], [1, 2], [1, 2], False, id="first epochs"),
        pytest.param([[7]], [7, 7], [2], [2], False, id="further epochs"),
        pytest.param([[7, 7, 7]], [7, 8, 8, 8], [2, 3, 4], [4], True, id="epochs trained again"),
        pytest.param([[7, 7, 7]], [8], [1], [], True, id="begun again"),
        pytest.param([[7, 7, 7], [8]], [8, 8, 8, 8], [2, 3, 4], [4], False, id="begun again and continued"),
        pytest.param([[7, 7]], [8, 7], [1, 2], [], True, id="an earlier epoch replaced"),
    ],
)
def test_news_are_the_epochs_that_differ(before, now, new, unseen, rewound) -> None:
    news = news_of(run(now), logged(*map(run, before)))
    assert news is not None
    assert [epoch.epoch for epoch in news.epochs] == new
    assert [epoch.epoch for epoch in news.unseen] == unseen
    assert news.rewound is rewound
    assert news_of(run(now), news.after) is None


@pytest.mark.parametrize(
    "state", [run(), run([7, 7]), run([7])], ids=["not begun", "nothing new", "epochs were only undone"]
)
def test_run_without_news_is_left_alone(state: Run) -> None:
    assert news_of(state, logged(run([7, 7]))) is None
    # It was opened again, because `--trials` was raised.
    assert news_of(state, replace(logged(run([7, 7])), outcome="pruned")) is None


def test_end_is_news_once() -> None:
    ended = run([7], "pruned")
    news = news_of(ended, logged(run([7])))
    assert news is not None
    assert news.epochs == []
    assert news_of(ended, news.after) is None


def test_values_survive_json() -> None:
    part = logged(run([7, 7, 8], "complete"))
    assert Logged.from_json(part.to_json()) == part
    assert Logged.from_json("of a newer version") == Logged.from_json("[1]") == Logged()
    whole = run([7], "complete", confusion=Confusion(counts=[[1]], classes=["a"]))
    assert Run.from_json(whole.to_json()) == whole


def test_folder_has_one_identity(tmp_path: Path) -> None:
    places = [LoggedFiles(tmp_path) for _ in range(2)]
    assert len({place.identity for place in places} | {LoggedFiles(tmp_path).identity}) == 1
    assert LoggedFiles(tmp_path / "other").identity != places[0].identity
    assert [path.name for path in (tmp_path / ".hpo").iterdir()] == ["id"]
