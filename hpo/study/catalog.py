"""Studies of a database: find and list them, set their state, delete them."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import ColumnElement, Connection, Row, Select, case, delete, func, select

from hpo import formatting
from hpo.errors import HpoError, StudyConflictError, StudyDamagedError, UnknownStudyError
from hpo.formatting import JsonRow
from hpo.outcomes import COUNTED, FAILURES
from hpo.study.open_space import with_observed_space
from hpo.study.predicates import alive_agent, attempt_in_slot, live_attempt, may_be_best
from hpo.suggestions import did_you_mean
from storage import studies as stored
from storage.optuna import attributes
from storage.studies import DesiredState, StoredStudy
from storage.tables import agents, attempts, studies, trials

if TYPE_CHECKING:
    from storage.engine import Database


class StudyBusyError(HpoError):
    """The study has running trials and is not deleted."""


@dataclass(frozen=True, kw_only=True)
class StudySummary(JsonRow):
    """One line of `hpo ls`."""

    json_keys = {"state": "condition"}

    name: str
    objective: str
    state: str
    finished: int
    budget: int
    failed: int
    running: int
    metric: str
    best_value: float | None
    agents: int
    created_at: datetime
    tags: tuple[str, ...] = ()
    value_rule: str = "last"
    """Which report is the value of a trial: see `objectives.trial_value`."""
    data: str = ""
    """Part of the data that it trains on; empty: all."""


def find_study(database: Database, name: str) -> StoredStudy:
    """Return the study with that name.

    Raises:
        UnknownStudyError: no study has that name.
    """
    return database.transaction(lambda connection: read_study(connection, name, database))


def read_study(connection: Connection, name: str, database: Database) -> StoredStudy:
    """Return the study of `find_study` inside a transaction."""
    study = stored.find(connection, name)
    if study is None:
        known = stored.names(connection).values()
        more = "`hpo ls` lists all" if known else "the database has no study yet: `hpo launch` creates one"
        raise UnknownStudyError(
            f"no study {name!r} in {describe_database(database)}{did_you_mean(name, known)} ({more})"
        )
    return with_observed_space(connection, study)


def check_name_is_free(
    connection: Connection, name: str, database: Database, *, but: int | None = None
) -> None:
    """Check that no study, plain Optuna's included, has the name, except the one with the id `but`.

    Raises:
        StudyConflictError: one has it.
    """
    if stored.ids_of(connection, name) - {but}:
        raise StudyConflictError(
            f"study {name!r} already exists in {describe_database(database)}: choose another name, or run"
            f" hpo delete --study {name} first"
        )


def describe_database(database: Database) -> str:
    """Return the database's URL without its password, or `the embedded database`."""
    return "the embedded database" if database.embedded else database.shown


def study_names(database: Database) -> list[str]:
    """Return the sorted names of all studies."""
    return list(database.transaction(stored.names).values())


def list_studies(database: Database, tags: Sequence[str] = ()) -> list[StudySummary]:
    """Return all studies that have each of the tags, the newest first."""
    return [study for study in database.transaction(summaries) if set(tags) <= set(study.tags)]


def set_desired_state(database: Database, name: str, state: DesiredState) -> DesiredState:
    """Set the desired state of a study to run, pause or stop; return the previous one.

    Raises:
        UnknownStudyError: no study has that name.
    """
    return database.transaction(
        lambda connection: stored.set_desired_state(
            connection, read_study(connection, name, database).study_id, state
        )
    )


def check_idle(name: str, running: int) -> None:
    """Raise StudyBusyError if a study that is to be deleted has running trials."""
    if running:
        raise StudyBusyError(
            f"study {name!r} has {formatting.counted(running, 'trial')} running: run hpo stop --study {name} first, or"
            " delete it anyway with --force"
        )


def delete_study(database: Database, name: str, *, folders: Sequence[Path] = (), force: bool = False) -> int:
    """Delete a study from all tables, and its folder in each of `folders`; return its number of trials.

    Raises:
        UnknownStudyError: no study has that name.
        StudyBusyError: trials are running and `force` is not set.
    """

    def claim(connection: Connection) -> tuple[StoredStudy, int, list[str]]:
        # A damaged study can be deleted too.
        study = stored.find(connection, name, damaged=True) or read_study(connection, name, database)
        running: int = connection.execute(
            _count(trials.c.study_id == study.study_id, live_attempt())
        ).scalar_one()
        if not force:
            check_idle(name, running)
        stored.set_desired_state(connection, study.study_id, "stop")
        number = connection.scalar(
            select(func.count()).select_from(trials).where(trials.c.study_id == study.study_id)
        )
        former = stored.former_names(connection, study.study_id)
        return study, number or 0, former

    study, number, former = database.transaction(claim)
    # Optuna's rows first: if this process dies in between, the study is still found and deleted next time.
    _delete_from_optuna(database, study)
    database.transaction(
        lambda connection: connection.execute(delete(studies).where(studies.c.study_id == study.study_id))
    )
    for folder in folders:
        for known in (name, *former):
            # Without a valid name there is no folder of the study.
            with suppress(StudyDamagedError):
                _delete_folder(folder, stored.folder_name(known, study.uid))
        _delete_template_logs(folder, name)
    return number


def count_trials(database: Database, name: str) -> tuple[int, int]:
    """Return how many trials a study has, and how many of them are running, even if its spec is damaged.

    Raises:
        UnknownStudyError: no study has that name.
    """

    def count(connection: Connection) -> tuple[int, int]:
        study = stored.find(connection, name, damaged=True) or read_study(connection, name, database)
        of_study = trials.c.study_id == study.study_id
        number = connection.execute(select(func.count()).select_from(trials).where(of_study)).scalar_one()
        return number, connection.execute(_count(of_study, live_attempt())).scalar_one()

    return database.transaction(count)


def _count(*conditions: ColumnElement[bool]) -> Select[int]:
    return select(func.count()).select_from(attempts.join(trials)).where(*conditions)


def summaries(connection: Connection) -> list[StudySummary]:
    """Return all studies, the newest first."""
    best = case((may_be_best(), trials.c.value))
    finished = func.count().filter(trials.c.outcome.in_(COUNTED))
    of_study = trials.c.study_id == studies.c.study_id
    running = _count(of_study, attempt_in_slot()).correlate(studies).scalar_subquery()
    held = _count(of_study, attempt_in_slot(), attempts.c.held_at.is_not(None))
    alive = (
        select(func.count()).where(agents.c.study_id == studies.c.study_id, alive_agent()).scalar_subquery()
    )
    query = (
        select(
            studies,
            finished.label("finished"),
            func.count().filter(trials.c.outcome.in_(FAILURES)).label("failed"),
            func.min(best).label("lowest"),
            func.max(best).label("highest"),
            running.label("running"),
            held.correlate(studies).scalar_subquery().label("held"),
            alive.label("alive"),
        )
        .select_from(studies.outerjoin(trials))
        .group_by(studies.c.study_id)
        .order_by(studies.c.created_at.desc(), studies.c.name)
    )
    tags = attributes.tags(connection)
    return [_summary(row, tags.get(row.study_id, ())) for row in connection.execute(query)]


def _summary(row: Row[Any], tags: tuple[str, ...]) -> StudySummary:
    sound = stored.is_spec(row.spec)
    spec: Mapping[str, Any] = row.spec if sound else {"objective": "-", "metric": "-", "direction": ""}
    best = row.highest if spec["direction"] == "maximize" else row.lowest
    return StudySummary(
        name=row.name,
        objective=spec["objective"],
        state=state_of(row.desired_state, row.finished >= row.budget, row.running, row.held, row.alive)
        if sound
        else "damaged",
        finished=row.finished,
        budget=row.budget,
        failed=row.failed,
        running=row.running,
        metric=spec["metric"],
        value_rule=spec.get("value", "last"),
        best_value=best if sound else None,
        agents=row.alive,
        created_at=row.created_at,
        tags=tags,
        data=_data(spec),
    )


def _data(spec: Mapping[str, Any]) -> str:
    data = spec.get("data") or {}
    limit, folds = data.get("limit"), data.get("folds")
    parts = [f"{limit} training examples"] if limit is not None else []
    parts += [f"{folds} folds"] if folds is not None else []
    return ", ".join(parts)


def state_of(desired: str, spent: bool, running: int, held: int, alive: int) -> str:
    """Return the state of a study, one of those that `hpo.study.monitoring.status.StudyStatus.state` lists.

    It follows from the desired state, whether the budget is spent, the number of running trials, of those among them
    that are held in a pause, and of agents that are alive.
    """
    if spent and not running:
        return "finished"
    if desired == "pause":
        return "pausing" if running > held else "paused"
    if desired == "stop":
        return "stopping" if running else "stopped"
    return "running" if alive or running else "idle"


def _delete_from_optuna(database: Database, study: StoredStudy) -> None:
    # By its id: another process may have renamed it. It may be gone already.
    with suppress(KeyError):
        database.optuna.delete_study(study.study_id)


def _delete_folder(parent: Path, name: str) -> None:
    folder = (parent / name).resolve()
    # A name such as `..` must not reach anything but a folder of a study.
    if folder.parent == parent.resolve() and folder.is_dir():
        shutil.rmtree(folder)


def _delete_template_logs(folder: Path, name: str) -> None:
    """Delete the logs of templates that could not load the study's objective."""
    log = re.compile(rf"template-{re.escape(name)}-\d+\.log")
    with suppress(OSError):
        for path in folder.iterdir():
            if log.fullmatch(path.name):
                path.unlink(missing_ok=True)
