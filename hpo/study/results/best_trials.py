"""The best complete trials of a study."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, Select, func, select

from hpo import formatting
from hpo.errors import NoResultError
from hpo.formatting import JsonRow
from hpo.outcomes import Outcome
from hpo.study.catalog import read_study
from hpo.study.open_space import declares_epochs
from hpo.study.predicates import may_be_best
from hpo.study.results.added_trials import better_added
from hpo.study.results.test_set import has_test_set
from hpo.study.results.trials import ADDED, rows_with_added
from objectives.spaces.choices import identity
from objectives.trial_value import Reported, chosen, reported
from storage.attempts import read_metrics
from storage.studies import StoredStudy
from storage.tables import epochs, trials

if TYPE_CHECKING:
    from storage.engine import Database


@dataclass(frozen=True, kw_only=True)
class BestTrial(JsonRow):
    """`hpo best`: the complete trial with the best value; on a tie, the earlier trial."""

    study: str
    objective: str
    number: int
    value: float
    metric: str
    direction: str
    params: Mapping[str, Any]
    epochs: int
    seed: int
    metrics: Mapping[str, float]
    """Metrics reported after the last epoch, or after the one whose value is the trial's."""
    value_epoch: int | None = None
    """Epoch after which the trial had its value, where the study takes the best one; None: the last epoch."""
    has_test_set: bool = True
    """Whether the data have a test set, without which `hpo retrain` refuses; true while that is not known."""
    better_added: str | None = None
    """Note on a better result that was added and not trained here."""


def best_trial(database: Database, name: str) -> BestTrial:
    """Return the best complete trial.

    Raises:
        UnknownStudyError: no study has that name.
        NoResultError: no trial is complete.
    """
    return best_trials(database, name, 1)[0]


def best_trials(database: Database, name: str, limit: int) -> list[BestTrial]:
    """Return up to `limit` complete trials with distinct parameters, the best first.

    Raises:
        UnknownStudyError: no study has that name.
        NoResultError: no trial is complete.
    """
    return database.transaction(
        lambda connection: _best(connection, read_study(connection, name, database), limit)
    )


def complete_trial(database: Database, name: str, number: int) -> BestTrial:
    """Return a complete trial by its number.

    Raises:
        UnknownStudyError: no study has that name.
        NoResultError: the trial does not exist or is not complete.
    """

    def find(connection: Connection) -> BestTrial:
        study = read_study(connection, name, database)
        row = connection.execute(best_query(study, None).where(trials.c.number == number)).one_or_none()
        if row is None:
            raise _incomplete(connection, study, number)
        return _best_trial(connection, study, row)

    return database.transaction(find)


def _incomplete(connection: Connection, study: StoredStudy, number: int) -> NoResultError:
    """Return the error about a trial that does not exist, or that has no result."""
    rows = {row.number: row for row in rows_with_added(connection, study.study_id) if row.number is not None}
    best = connection.execute(best_query(study)).one_or_none()
    listed = f"hpo trials --study {study.name} lists them"
    if number not in rows:
        held = f"its trials are {formatting.ranges(rows)}" if rows else "it has none yet"
        return NoResultError(f"study {study.name!r} has no trial {number}, {held}: {listed}")
    choice = (
        "none is complete yet"
        if best is None
        else f"choose a complete trial, such as the best, {best.number}"
    )
    row = rows[number]
    state = row.state if row.state == ADDED else textwrap.shorten(row.why or row.state, 100, placeholder=" …")
    if row.state == Outcome.COMPLETE:
        state = f"its value is {formatting.metric(row.value)}"
    return NoResultError(
        f"trial {number} of study {study.name!r} has no result ({state}): {choice} ({listed})"
    )


def best_query(study: StoredStudy, limit: int | None = 1) -> Select[Any]:
    """Select the `limit` best complete trials, best first; all of them if None."""
    order = trials.c.value.desc() if study.maximize else trials.c.value.asc()
    return (
        select(trials)
        .where(trials.c.study_id == study.study_id, may_be_best(), trials.c.number.is_not(None))
        .order_by(order, trials.c.number)
        .limit(limit)
    )


def _best(connection: Connection, study: StoredStudy, limit: int) -> list[BestTrial]:
    # Parameters may occur more than once, so several distinct ones require all rows.
    found: dict[str, BestTrial] = {}
    for row in connection.execute(best_query(study, 1 if limit == 1 else None)):
        if len(found) == limit:
            break
        key = identity(row.params or {})
        if key not in found:
            found[key] = _best_trial(connection, study, row)
    if not found:
        number = connection.scalar(
            select(func.count()).select_from(trials).where(trials.c.study_id == study.study_id)
        )
        raise NoResultError(
            f"study {study.name!r} has no complete trial among its {number or 0} yet: "
            f"hpo status --study {study.name} shows its progress"
        )
    return list(found.values())


def _best_trial(connection: Connection, study: StoredStudy, row: Any) -> BestTrial:
    judged = judged_report(connection, study, row.reservation_id)
    # An objective may judge the trial by a value that it has not reported.
    by_best = study.value_rule == "best" and judged is not None and judged.value == row.value
    epoch = judged.epoch if judged is not None and by_best else None
    last = select(epochs.c.metrics).where(epochs.c.reservation_id == row.reservation_id)
    last = last.where(epochs.c.epoch == epoch) if epoch is not None else last
    metrics = connection.scalar(last.order_by(epochs.c.epoch.desc()).limit(1))
    return BestTrial(
        study=study.name,
        objective=study.objective,
        number=row.number,
        value=row.value,
        metric=study.metric,
        direction=str(study.spec_json["direction"]),
        params=row.params or {},
        epochs=row.epochs,
        seed=row.seed,
        metrics=read_metrics(metrics or {}),
        value_epoch=epoch,
        has_test_set=has_test_set(connection, study.study_id),
        better_added=better_added(connection, study, row.value),
    )


def judged_report(connection: Connection, study: StoredStudy, reservation_id: int) -> Reported | None:
    """Return the report whose value is that of a trial, unless its objective sets another."""
    rows = connection.execute(
        select(epochs.c.epoch, epochs.c.metrics).where(epochs.c.reservation_id == reservation_id)
    )
    metrics = {row.epoch: read_metrics(row.metrics) for row in rows}
    reports = reported(metrics, study.metric, own_steps=not declares_epochs(study.spec_json))
    return chosen(reports, study.value_rule, maximize=study.maximize)
