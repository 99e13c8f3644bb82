"""Real searches: the pick of a user over time, and the comparison of both pruners."""

from bench.search.real import Course, Epoch, course_of, rows_of


def test_pick_is_the_longest_trained_trial_until_one_is_complete() -> None:
    reports = [("a", 1, 0.5), ("a", 2, 0.4), ("b", 1, 0.9), ("a", 3, 0.6), ("b", 2, 0.95), ("b", 3, 0.7)]
    epochs = [Epoch(10.0 + at, *report) for at, report in enumerate(reports)]

    course = course_of(epochs, last=3)

    assert course.values == [0.5, 0.4, 0.4, 0.6, 0.6, 0.7]
    assert course.seconds == [0, 1, 2, 3, 4, 5]
    assert (course.configurations, course.complete) == (2, 2)
    assert (course.first_to(0.6), course.first_to(0.8)) == (4, None)


def test_costs_are_relative_to_the_whole_search_with_the_reference() -> None:
    slow = Course([0.0, 10.0, 20.0, 40.0], [0.1, 0.2, 0.3, 0.4], 4, 2)
    fast = Course([0.0, 10.0], [0.3, 0.5], 2, 1)

    by_name = {row["pruner"]: row for row in rows_of([{"tpe+median": slow, "freeze-thaw model": fast}])}

    assert by_name["freeze-thaw model"]["better in"] == "1 of 1"
    assert by_name["freeze-thaw model"]["epochs to the reference's value"] == "0.50"
    assert by_name["freeze-thaw model"]["time to it"] == "0.25"
    assert by_name["tpe+median"]["epochs to the reference's value"] == "1.00"
