"""An agent whose study or database is deleted, replaced or restored while it trains."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import optuna
import pytest

from hpo.errors import HpoError, StorageUnreachableError, StudyLostError
from hpo.outcomes import Outcome
from storage import retrains
from storage.engine import Database
from tests.integration.stores import StoredStudy, begun, report

GONE = "study 's' was deleted, or its database was replaced, while this agent trained it: "


@pytest.fixture
def study(database: Database) -> StoredStudy:
    return StoredStudy(database, budget=3)


def delete_with_optuna(study: StoredStudy) -> None:
    optuna.delete_study(study_name="s", storage=study.database.optuna)


def restore(study: StoredStudy) -> None:
    """Replace a table by one with the same rows, as `pg_restore --clean` does."""
    study.execute("ALTER TABLE hpo.agents RENAME TO before")
    study.execute("CREATE TABLE hpo.agents AS SELECT * FROM hpo.before")


def executing(sql: str) -> Callable[[StoredStudy], None]:
    return lambda study: study.execute(sql)


@pytest.mark.parametrize(
    ("lose", "error", "message"),
    [
        (delete_with_optuna, StudyLostError, "deleted with plain Optuna .*: remove the rest with hpo delete"),
        (executing("DELETE FROM hpo.studies"), StudyLostError, GONE),
        (executing("TRUNCATE hpo.agents CASCADE"), StudyLostError, GONE),
        (executing("UPDATE hpo.agents SET process = 'of another database'"), StudyLostError, GONE),
        (restore, StudyLostError, GONE),
        (
            executing("DROP SCHEMA hpo CASCADE"),
            StorageUnreachableError,
            "can no longer be used .*: check that",
        ),
    ],
)
def test_agent_of_a_lost_study_reports_it_whatever_it_does_next(
    study: StoredStudy, lose: Callable[[StoredStudy], None], error: type[HpoError], message: str
) -> None:
    store = study.agent()
    claim, trial_id = begun(store, 0)
    other, _ = begun(store, 1)
    report(store, claim, trial_id)
    lose(study)
    with pytest.raises(error, match=message):
        store.refresh()
    for act in (
        lambda: store.claim(2, "cpu"),
        lambda: report(store, claim, trial_id, epoch=2),
        lambda: store.settle(claim.attempt_id, Outcome.COMPLETE, 0.5),
        lambda: store.begin(other.attempt_id, 1, 0),
        lambda: store.sweep(0.0),
        lambda: store.leave(),
    ):
        # Any other error is a traceback for the user.
        with suppress(error):
            act()


def test_retrain_of_a_deleted_study_is_refused_before_it_trains(study: StoredStudy) -> None:
    def begin() -> int:
        return study.database.transaction(
            lambda c: retrains.begin(c, 7, study.optuna._study_id, {"trial": 0}, [1])
        )

    retrain_id = begin()
    study.execute("DELETE FROM hpo.studies")
    with pytest.raises(StudyLostError, match="with --config"):
        begin()
    assert not study.database.transaction(lambda c: retrains.finish(c, retrain_id, {})), "no row"
