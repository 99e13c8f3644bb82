"""The log of retrains: continued where one was interrupted, and every look at a test set in it."""

from __future__ import annotations

from storage import retrains
from storage.engine import Database
from tests.integration.rows import StudyRows

CONFIG = {"objective": "digits-cnn", "params": {"x": 1}}


def test_interrupted_retrain_continues(database: Database) -> None:
    study_id = StudyRows(database).study_id
    first, other = _do(database, retrains.new_id), _do(database, retrains.new_id)
    for _ in range(2):
        # The second time as after a commit whose answer was lost.
        assert _do(database, retrains.begin, first, study_id, CONFIG, [1, 2]) == first
    assert _do(database, retrains.begin, other, study_id, CONFIG, [1, 2, 3], first) == first
    (row,) = _do(database, retrains.retrains_of, study_id)
    assert (row.seeds, row.metrics, row.test_opened_at) == ((1, 2, 3), None, None)
    _do(database, retrains.finish, first, {"summary": {}})
    # One that has ended is not continued, nor is another study's.
    second = _do(database, retrains.begin, other, study_id, CONFIG, [1], first)
    elsewhere = StudyRows(database, "other").study_id
    third = _do(database, retrains.new_id)
    assert _do(database, retrains.begin, third, elsewhere, CONFIG, [1], second) == third
    assert len({first, second, third}) == 3
    assert [row.retrain_id for row in _do(database, retrains.retrains_of, study_id)] == [first, second]


def test_first_opening_of_the_test_set_is_kept(database: Database) -> None:
    study_id = StudyRows(database).study_id
    retrain_id = _do(database, retrains.begin, _do(database, retrains.new_id), study_id, CONFIG, [1])
    assert _do(database, retrains.openings, study_id) == []
    for _ in range(2):
        _do(database, retrains.open_test_set, retrain_id)
    (opened,) = _do(database, retrains.openings, study_id)
    _do(database, retrains.finish, retrain_id, {})
    assert _do(database, retrains.openings, study_id) == [opened]
    (row,) = _do(database, retrains.retrains_of, study_id)
    assert row.test_opened_at == opened
    assert row.ended_at is not None
    assert row.ended_at >= opened


def _do(database: Database, call, *arguments):
    return database.transaction(lambda connection: call(connection, *arguments))
