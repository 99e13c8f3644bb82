"""Replays on disk: used again, and only for the same job."""

from pathlib import Path

import numpy as np

from bench.search.cached import Job, cached
from bench.search.chart import charts
from bench.search.scores import Courses


def test_replay_of_the_same_job_is_read_from_its_file(tmp_path: Path) -> None:
    replayed: list[Job] = []

    def search(job: Job) -> Courses:
        replayed.append(job)
        regrets = np.full((2, 3), float(job[3]))
        return Courses(regrets, 2 * regrets, np.full(2, 3.0), np.ones(2), np.zeros(2))

    four: Job = ("mnist-cnn", "rows", "random", 4, 2, None)
    first, again = cached(search, four, tmp_path), cached(search, four, tmp_path)
    other = cached(search, ("mnist-cnn", "rows", "random", 16, 2, None), tmp_path)

    assert [job[3] for job in replayed] == [4, 16]
    assert other.regrets[0, 0] == 16
    for name, array in vars(first).items():
        np.testing.assert_array_equal(vars(again)[name], array)


def test_chart_has_both_costs_and_shows_a_regret_of_zero() -> None:
    course = {"regrets": [0.2, 0.0], "minutes": [1.5, 4.0]}
    found = {"tpe": course, "random": course}
    courses = {
        "cifar-cnn, 4 workers, partial table of 9 configurations": found,
        "cifar-cnn, 1 workers": found,
    }

    (by_epochs,), (by_time,) = charts(courses, "trainings"), charts(courses, "minutes")

    assert by_epochs.title == by_time.title == "cifar-cnn, 4 workers"
    assert [(point.x, point.y) for point in by_epochs.series[0].points] == [(1, 20.0), (2, 0.01)]
    assert [point.x for point in by_time.series[0].points] == [1.5, 4.0]
    assert [series.name for series in by_epochs.series] == ["tpe"]
