"""What is known of a study: read from our tables in a few aggregating queries, however many trials it has."""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Double,
    Float,
    Select,
    and_,
    case,
    cast,
    delete,
    distinct,
    extract,
    func,
    select,
    text,
)

from hpo import numbers
from hpo.errors import HpoError, NoResultError, UnknownStudyError
from hpo.names import did_you_mean
from storage import control
from storage.budget import FAILED, FINISHED
from storage.leases import LeaseTimes
from storage.tables import agents, attempts, epochs, studies, trials

if TYPE_CHECKING:
    from storage.engine import Database

ALIVE_SECONDS = LeaseTimes().lease_seconds
"""An agent that was not seen for longer counts as gone."""

_NOW = func.clock_timestamp()
_NOT_FINITE = ("NaN", "Infinity", "-Infinity")


class StudyBusyError(HpoError):
    """Trials of the study are running, so it is not deleted."""


@dataclass(frozen=True)
class StudyRow:
    """One row of `hpo.studies`."""

    study_id: int
    name: str
    spec: Mapping[str, Any]
    """As stored: `hpo.spec.StudySpec.from_json` reads it, at the price of importing Optuna."""
    budget: int
    control: str
    created_at: datetime

    @property
    def objective(self) -> str:
        return str(self.spec["objective"])

    @property
    def metric(self) -> str:
        return str(self.spec["metric"])

    @property
    def maximize(self) -> bool:
        return bool(self.spec["direction"] == "maximize")


@dataclass(frozen=True)
class _Shown:
    """Something a command prints."""

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready dict: times in ISO 8601, NaN and infinities as strings."""
        safe: dict[str, Any] = numbers.json_safe(_isoformat(asdict(self)))
        return safe


@dataclass(frozen=True)
class StudySummary(_Shown):
    """One line of `hpo ls`."""

    name: str
    objective: str
    condition: str
    finished: int
    budget: int
    failed: int
    running: int
    metric: str
    best_value: float | None
    agents: int
    created_at: datetime


@dataclass(frozen=True)
class AgentRow(_Shown):
    """An agent that is alive."""

    host: str
    pid: int
    slots: int
    seen_seconds: float
    """Since it was last seen, by the database's clock."""


@dataclass(frozen=True)
class RunningRow(_Shown):
    """A trial that is being trained."""

    number: int | None
    epoch: int
    """Epochs completed."""
    metric: float | None
    """The objective's metric after the last of them."""
    slot: int
    device: str
    host: str
    seconds: float
    """Since this attempt began."""


@dataclass(frozen=True)
class StudyStatus(_Shown):
    """`hpo status`."""

    name: str
    objective: str
    condition: str
    """`finished`, `running`, `idle` (no agent is alive), or `pausing`, `paused`, `stopping`, `stopped`."""
    control: str
    metric: str
    direction: str
    epochs_per_trial: int
    """Of a trial that is not pruned."""
    budget: int
    finished: int
    outcomes: Mapping[str, int]
    """Each outcome that occurred to its number of trials."""
    failed: int
    running: int
    waiting: int
    """Open trials that nobody trains just now: a next attempt continues them."""
    best_number: int | None
    best_value: float | None
    best_params: Mapping[str, Any] | None
    epochs_trained: int
    """By all attempts, those repeated after a loss included."""
    mean_epochs: float | None
    """Completed epochs of a finished trial."""
    elapsed_seconds: float
    """While at least one agent was alive."""
    remaining_seconds: float | None
    """At the pace so far; None when it is not running or nothing has finished."""
    agents: tuple[AgentRow, ...]
    slots: tuple[RunningRow, ...]
    created_at: datetime


@dataclass(frozen=True)
class TrialRow(_Shown):
    """One line of `hpo trials`."""

    number: int | None
    """Optuna's; None while the trial is being created."""
    state: str
    """The outcome, or `running` or `waiting` while there is none."""
    why: str
    """Why it ended, in words; empty while it is open."""
    value: float | None
    epochs: int
    seconds: float
    """Spent in all its attempts."""
    attempts: int
    params: Mapping[str, Any]
    created_at: datetime


@dataclass(frozen=True)
class BestTrial(_Shown):
    """`hpo best`: the complete trial with the best value; the earlier one of equals."""

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
    """All that it reported after its last epoch."""


def find_study(database: Database, name: str) -> StudyRow:
    """The study of that name.

    Raises:
        UnknownStudyError: there is none.
    """
    return database.transaction(lambda connection: _find(connection, name, database_words(database)))


def database_words(database: Database) -> str:
    """The database for a message: its URL without the password, or that it is the embedded one."""
    return "the embedded database" if database.embedded else database.shown


def study_names(database: Database) -> list[str]:
    """Names of all studies, sorted."""
    return database.transaction(
        lambda connection: list(connection.scalars(select(studies.c.name).order_by(studies.c.name)))
    )


def list_studies(database: Database) -> list[StudySummary]:
    """All studies, the newest first."""
    return database.transaction(_summaries)


def study_status(database: Database, name: str) -> StudyStatus:
    """Where a study stands.

    Raises:
        UnknownStudyError: there is none of that name.
    """
    return database.transaction(
        lambda connection: _status(connection, _find(connection, name, database_words(database)))
    )


def trial_rows(database: Database, name: str) -> list[TrialRow]:
    """Every trial of a study, by number.

    Raises:
        UnknownStudyError: there is none of that name.
    """
    return database.transaction(
        lambda connection: _trial_rows(connection, _find(connection, name, database_words(database)).study_id)
    )


def sorted_trials(database: Database, name: str, by: str) -> list[TrialRow]:
    """Every trial of a study: the best `value` first, or the most `seconds`; what has none comes last.

    Raises:
        UnknownStudyError: there is none of that name.
    """

    def read(connection: Connection) -> list[TrialRow]:
        study = _find(connection, name, database_words(database))
        rows = _trial_rows(connection, study.study_id)
        if by == "seconds":
            return sorted(rows, key=lambda row: -row.seconds)
        sign = -1 if study.maximize else 1
        return sorted(rows, key=lambda row: _last_if_none(row.value, sign))

    return database.transaction(read)


def best_trial(database: Database, name: str) -> BestTrial:
    """The best complete trial.

    Raises:
        UnknownStudyError: there is no study of that name.
        NoResultError: none of its trials is complete.
    """
    return database.transaction(
        lambda connection: _best(connection, _find(connection, name, database_words(database)))
    )


def set_control(database: Database, name: str, told: control.Control) -> control.Control:
    """Tell a study's agents to run, pause or stop; returns what they were told before.

    Raises:
        UnknownStudyError: there is no study of that name.
    """
    return database.transaction(
        lambda connection: control.write_control(
            connection, _find(connection, name, database_words(database)).study_id, told
        )
    )


def delete_study(
    database: Database, name: str, *, checkpoints: Path | None = None, force: bool = False
) -> int:
    """Delete a study from our tables and Optuna's, and its folder in `checkpoints`; returns how many trials.

    Raises:
        UnknownStudyError: there is no study of that name.
        StudyBusyError: trials are running, and `force` is not given.
    """

    def claim(connection: Connection) -> tuple[StudyRow, int]:
        study = _find(connection, name, database_words(database))
        running: int = connection.execute(_count_live(study.study_id)).scalar_one()
        if running and not force:
            raise StudyBusyError(
                f"study {name!r} has {running} trial{'s' if running > 1 else ''} running: "
                f"hpo stop --study {name} first, or delete it all the same with --force"
            )
        control.stop(connection, study.study_id)
        number = connection.scalar(
            select(func.count()).select_from(trials).where(trials.c.study_id == study.study_id)
        )
        return study, number or 0

    study, number = database.transaction(claim)
    # Optuna's rows first: should this process die in between, ours are still found and deleted next time.
    _delete_from_optuna(database, study)
    database.transaction(
        lambda connection: connection.execute(delete(studies).where(studies.c.study_id == study.study_id))
    )
    if checkpoints is not None:
        _delete_folder(checkpoints, name)
    return number


def _last_if_none(value: float | None, sign: int) -> tuple[bool, float]:
    missing = value is None or not math.isfinite(value)
    return missing, 0.0 if value is None or missing else sign * value


def _find(connection: Connection, name: str, shown: str) -> StudyRow:
    row = connection.execute(select(studies).where(studies.c.name == name)).one_or_none()
    if row is None:
        known = list(connection.scalars(select(studies.c.name)))
        more = "`hpo ls` shows all" if known else "it holds no study yet: `hpo launch` begins one"
        raise UnknownStudyError(f"there is no study {name!r} in {shown}{did_you_mean(name, known)} ({more})")
    return StudyRow(row.study_id, row.name, row.spec, row.budget, row.control, row.created_at)


def _live() -> ColumnElement[bool]:
    """Whether an attempt still runs, as far as its lease tells."""
    return and_(attempts.c.ended_at.is_(None), attempts.c.lease_until > _NOW)


def _alive() -> ColumnElement[bool]:
    return and_(
        agents.c.ended_at.is_(None),
        agents.c.seen_at > _NOW - func.make_interval(0, 0, 0, 0, 0, 0, ALIVE_SECONDS),
    )


def _seconds(duration: ColumnElement[Any]) -> ColumnElement[float]:
    return cast(extract("epoch", duration), Double)


def _count_live(study_id: int) -> Select[int]:
    return (
        select(func.count())
        .select_from(attempts.join(trials, attempts.c.token == trials.c.token))
        .where(trials.c.study_id == study_id, _live())
    )


def _finite_best() -> ColumnElement[bool]:
    """Trials that may be the best one."""
    return and_(
        trials.c.outcome == "complete",
        trials.c.value.is_not(None),
        trials.c.value.not_in([cast(value, Double) for value in _NOT_FINITE]),
    )


def _summaries(connection: Connection) -> list[StudySummary]:
    best = case((_finite_best(), trials.c.value))
    counts = (
        select(
            trials.c.study_id,
            func.count().filter(trials.c.outcome.in_(FINISHED)).label("finished"),
            func.count().filter(trials.c.outcome.in_(FAILED)).label("failed"),
            func.min(best).label("lowest"),
            func.max(best).label("highest"),
        )
        .group_by(trials.c.study_id)
        .subquery()
    )
    running = (
        select(trials.c.study_id, func.count().label("running"))
        .select_from(attempts.join(trials, attempts.c.token == trials.c.token))
        .where(_live())
        .group_by(trials.c.study_id)
        .subquery()
    )
    alive = (
        select(agents.c.study_id, func.count(distinct(agents.c.agent_id)).label("alive"))
        .where(_alive())
        .group_by(agents.c.study_id)
        .subquery()
    )
    query = (
        select(studies, counts, running.c.running, alive.c.alive)
        .select_from(
            studies.outerjoin(counts, counts.c.study_id == studies.c.study_id)
            .outerjoin(running, running.c.study_id == studies.c.study_id)
            .outerjoin(alive, alive.c.study_id == studies.c.study_id)
        )
        .order_by(studies.c.created_at.desc(), studies.c.name)
    )
    found = []
    for row in connection.execute(query):
        spec, finished, live = row.spec, row.finished or 0, row.running or 0
        found.append(
            StudySummary(
                name=row.name,
                objective=spec["objective"],
                condition=_condition(row.control, finished >= row.budget, live, row.alive or 0),
                finished=finished,
                budget=row.budget,
                failed=row.failed or 0,
                running=live,
                metric=spec["metric"],
                best_value=row.highest if spec["direction"] == "maximize" else row.lowest,
                agents=row.alive or 0,
                created_at=row.created_at,
            )
        )
    return found


def _condition(told: str, full: bool, running: int, alive: int) -> str:
    if full and not running:
        return "finished"
    if told == "pause":
        return "pausing" if running else "paused"
    if told == "stop":
        return "stopping" if running else "stopped"
    return "running" if alive or running else "idle"


def _status(connection: Connection, study: StudyRow) -> StudyStatus:
    # One query for all counts, so that they add up.
    live = attempts.c.attempt_id.is_not(None)
    counts = connection.execute(
        select(
            trials.c.outcome,
            live.label("live"),
            func.count().label("number"),
            func.sum(trials.c.epochs).label("completed"),
        )
        .select_from(trials.outerjoin(attempts, and_(attempts.c.token == trials.c.token, _live())))
        .where(trials.c.study_id == study.study_id)
        .group_by(trials.c.outcome, live)
    ).all()
    outcomes: dict[str, int] = {}
    for row in counts:
        if row.outcome is not None:
            outcomes[row.outcome] = outcomes.get(row.outcome, 0) + row.number
    running = sum(row.number for row in counts if row.outcome is None and row.live)
    waiting = sum(row.number for row in counts if row.outcome is None and not row.live)
    finished = sum(outcomes.get(name, 0) for name in FINISHED)
    completed = sum(row.completed or 0 for row in counts if row.outcome in FINISHED)
    trained = connection.scalar(
        select(func.sum(attempts.c.epochs))
        .select_from(attempts.join(trials, attempts.c.token == trials.c.token))
        .where(trials.c.study_id == study.study_id)
    )
    alive = _alive_agents(connection, study.study_id)
    elapsed = _elapsed(connection, study.study_id)
    condition = _condition(study.control, finished >= study.budget, running, len(alive))
    best = connection.execute(_best_query(study)).first()
    return StudyStatus(
        name=study.name,
        objective=study.objective,
        condition=condition,
        control=study.control,
        metric=study.metric,
        direction=str(study.spec["direction"]),
        epochs_per_trial=int(study.spec["epochs"]),
        budget=study.budget,
        finished=finished,
        outcomes={name: outcomes[name] for name in (*FINISHED, *FAILED) if name in outcomes},
        failed=sum(outcomes.get(name, 0) for name in FAILED),
        running=running,
        waiting=waiting,
        best_number=best.number if best else None,
        best_value=best.value if best else None,
        best_params=best.params if best else None,
        epochs_trained=trained or 0,
        mean_epochs=completed / finished if finished else None,
        elapsed_seconds=elapsed,
        remaining_seconds=(
            max(0, study.budget - finished) * elapsed / finished
            if finished and condition == "running"
            else None
        ),
        agents=alive,
        slots=_running_slots(connection, study),
        created_at=study.created_at,
    )


def _alive_agents(connection: Connection, study_id: int) -> tuple[AgentRow, ...]:
    query = (
        select(
            agents.c.host,
            agents.c.pid,
            agents.c.slots,
            _seconds(_NOW - agents.c.seen_at).label("seen_seconds"),
        )
        .where(agents.c.study_id == study_id, _alive())
        .order_by(agents.c.ordinal)
    )
    return tuple(
        AgentRow(row.host, row.pid, row.slots, max(0.0, row.seen_seconds))
        for row in connection.execute(query)
    )


def _running_slots(connection: Connection, study: StudyRow) -> tuple[RunningRow, ...]:
    last = (
        select(epochs.c.metrics[study.metric].astext.label("metric"))
        .where(epochs.c.token == trials.c.token)
        .order_by(epochs.c.epoch.desc())
        .limit(1)
        .lateral("last")
    )
    query = (
        select(
            trials.c.number,
            trials.c.epochs,
            last.c.metric,
            attempts.c.slot,
            attempts.c.device,
            attempts.c.host,
            _seconds(_NOW - attempts.c.started_at).label("seconds"),
        )
        .select_from(attempts.join(trials, attempts.c.token == trials.c.token).outerjoin(last, text("true")))
        .where(trials.c.study_id == study.study_id, _live())
        .order_by(attempts.c.host, attempts.c.slot, trials.c.ordinal)
    )
    return tuple(
        RunningRow(
            row.number,
            row.epochs,
            numbers.json_number(row.metric),
            row.slot,
            row.device,
            row.host,
            row.seconds,
        )
        for row in connection.execute(query)
    )


_ELAPSED = text(
    """
    SELECT coalesce(sum(extract(epoch FROM upper(spell) - lower(spell))), 0)::float8
    FROM (
        SELECT unnest(range_agg(tstzrange(started_at, greatest(started_at, last)))) AS spell
        FROM (
            SELECT started_at,
                   CASE WHEN ended_at IS NOT NULL THEN ended_at
                        WHEN seen_at > clock_timestamp() - make_interval(secs => :alive)
                        THEN clock_timestamp()
                        ELSE seen_at END AS last
            FROM hpo.agents WHERE study_id = :study_id
        ) AS lives
    ) AS spells
    """
)


def _elapsed(connection: Connection, study_id: int) -> float:
    """Seconds during which any agent was alive: overlapping lives count once, nights off do not."""
    value = connection.scalar(_ELAPSED, {"study_id": study_id, "alive": ALIVE_SECONDS})
    return float(value or 0.0)


def _trial_rows(connection: Connection, study_id: int) -> list[TrialRow]:
    until = func.coalesce(attempts.c.ended_at, func.least(attempts.c.lease_until, _NOW))
    spent = (
        select(
            attempts.c.token,
            func.count().label("attempts"),
            func.sum(_seconds(until - attempts.c.started_at)).label("seconds"),
            func.bool_or(_live()).label("live"),
        )
        .select_from(attempts.join(trials, attempts.c.token == trials.c.token))
        .where(trials.c.study_id == study_id)
        .group_by(attempts.c.token)
        .subquery()
    )
    query = (
        select(
            trials.c.number,
            trials.c.outcome,
            trials.c.value,
            trials.c.epochs,
            trials.c.params,
            trials.c.lost,
            trials.c.error,
            trials.c.created_at,
            spent.c.attempts,
            cast(spent.c.seconds, Float).label("seconds"),
            spent.c.live,
        )
        .select_from(trials.outerjoin(spent, spent.c.token == trials.c.token))
        .where(trials.c.study_id == study_id)
        .order_by(trials.c.number.nulls_last(), trials.c.ordinal)
    )
    return [
        TrialRow(
            number=row.number,
            state=row.outcome or ("running" if row.live else "waiting"),
            why=why_ended(row.outcome, row.epochs, row.lost, row.error),
            value=row.value,
            epochs=row.epochs,
            seconds=max(0.0, row.seconds or 0.0),
            attempts=row.attempts or 0,
            params=row.params or {},
            created_at=row.created_at,
        )
        for row in connection.execute(query)
    ]


def why_ended(outcome: str | None, completed: int, lost: int, error: str | None) -> str:
    """A trial's outcome in words; empty while it is open."""
    after = f"after epoch {completed}" if completed else "in the first epoch"
    words = {
        None: "",
        "complete": "trained to the end",
        "pruned": f"pruned {after}",
        "diverged": f"diverged {after}",
        "oom": f"out of memory {after}",
        "bug": f"error {after}",
        "lost": f"lost {lost} times",
        "hung": f"made no progress {after}",
    }.get(outcome, str(outcome))
    detail = " ".join((error or "").split())
    if not detail or outcome in (None, "complete", "pruned"):
        return words
    return detail if outcome in ("lost", "hung") else f"{words}: {detail}"


def _best_query(study: StudyRow) -> Select[Any]:
    order = trials.c.value.desc() if study.maximize else trials.c.value.asc()
    return (
        select(trials)
        .where(trials.c.study_id == study.study_id, _finite_best(), trials.c.number.is_not(None))
        .order_by(order, trials.c.number)
        .limit(1)
    )


def _best(connection: Connection, study: StudyRow) -> BestTrial:
    row = connection.execute(_best_query(study)).first()
    if row is None:
        number = connection.scalar(
            select(func.count()).select_from(trials).where(trials.c.study_id == study.study_id)
        )
        raise NoResultError(
            f"study {study.name!r} has no complete trial among its {number or 0} yet: "
            f"hpo status --study {study.name} shows where it stands"
        )
    metrics = connection.scalar(
        select(epochs.c.metrics).where(epochs.c.token == row.token).order_by(epochs.c.epoch.desc()).limit(1)
    )
    return BestTrial(
        study=study.name,
        objective=study.objective,
        number=row.number,
        value=row.value,
        metric=study.metric,
        direction=str(study.spec["direction"]),
        params=row.params or {},
        epochs=row.epochs,
        seed=row.seed,
        metrics={name: float(value) for name, value in (metrics or {}).items()},
    )


def _delete_from_optuna(database: Database, study: StudyRow) -> None:
    import optuna

    try:
        name = database.optuna.get_study_name_from_id(study.study_id)
    except KeyError:
        return
    optuna.delete_study(study_name=name, storage=database.optuna)


def _delete_folder(checkpoints: Path, name: str) -> None:
    folder = (checkpoints / name).resolve()
    # A name such as `..` must not reach anything but a folder of a study.
    if folder.parent == checkpoints.resolve() and folder.is_dir():
        shutil.rmtree(folder)


def _isoformat(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Mapping):
        return {key: _isoformat(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_isoformat(item) for item in value]
    return value
