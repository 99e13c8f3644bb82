"""Rows of `hpo.studies`: found, inserted and updated; agents poll the desired state every few seconds."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, cast, get_args

from sqlalchemy import Connection, Row, func, select, text, update

from hpo.errors import StudyDamagedError
from hpo.outcomes import COUNTED
from storage.optuna import attributes
from storage.optuna.attributes import FORMER_NAMES
from storage.tables import retrains, studies, trials

DesiredState = Literal["run", "pause", "stop"]
"""Agents hold their trials at the next batch on `pause`; on `stop` they checkpoint and release them, and end."""

DESIRED_STATES: tuple[DesiredState, ...] = get_args(DesiredState)

_UID = re.compile("([0-9a-f]{8})?")


def is_uid(value: object) -> bool:
    """Whether it is the uid of a study; it is empty for a study created before uids existed."""
    return isinstance(value, str) and _UID.fullmatch(value) is not None


def folder_name(study: str, uid: str) -> str:
    """Return the name of a study's folders, distinct between databases that share a disk.

    Raises:
        StudyDamagedError: the name leads out of the folder that contains it: the database was edited.
    """
    if not is_uid(uid) or "/" in study or study in ("", ".", ".."):
        raise StudyDamagedError(
            f"the files of study {study!r} would lie outside its folder, because the database holds uid {uid!r}:"
            f" delete the study with hpo delete --study {study}, which leaves files of such names alone"
        )
    return f"{study}@{uid}" if uid else study


@dataclass(frozen=True, kw_only=True)
class StoredStudy:
    """One row of `hpo.studies`."""

    study_id: int
    name: str
    uid: str
    spec_json: Mapping[str, Any]
    """The spec as stored; `hpo.search.spec.StudySpec.from_json` parses it, which imports Optuna."""
    budget: int
    desired_state: str
    created_at: datetime

    @property
    def folder(self) -> str:
        """Name of its folders."""
        return folder_name(self.name, self.uid)

    @property
    def objective(self) -> str:
        """Reference to the objective, as `objectives.loader.load` takes it."""
        return str(self.spec_json["objective"])

    @property
    def metric(self) -> str:
        """Name of the metric that is optimized."""
        return str(self.spec_json["metric"])

    @property
    def value_rule(self) -> str:
        """Which report is the value of a trial: see `objectives.trial_value`."""
        return str(self.spec_json.get("value", "last"))

    @property
    def maximize(self) -> bool:
        """Whether a larger metric is better."""
        return bool(self.spec_json["direction"] == "maximize")


def find(connection: Connection, name: str, *, damaged: bool = False) -> StoredStudy | None:
    """Return the study of that name, or None.

    Raises:
        StudyDamagedError: its spec is not one, and `damaged` does not ask for such studies too.
    """
    row = connection.execute(
        select(
            studies.c.study_id,
            studies.c.name,
            studies.c.uid,
            studies.c.spec.label("spec_json"),
            studies.c.budget,
            studies.c.desired_state,
            studies.c.created_at,
        ).where(studies.c.name == name)
    ).one_or_none()
    if row is None:
        return None
    if not damaged and not is_spec(row.spec_json):
        raise StudyDamagedError(
            f"study {name!r} has no valid spec in the database: delete it with hpo delete --study {name},"
            " and restore it from a backup if you have one"
        )
    return StoredStudy(**row._mapping)


def is_spec(spec_json: object) -> bool:
    """Whether it has the fields that every reader of a spec needs."""
    return (
        isinstance(spec_json, Mapping)
        and all(isinstance(spec_json.get(key), str) for key in ("objective", "metric"))
        and spec_json.get("direction") in ("minimize", "maximize")
        and isinstance(spec_json.get("space"), Mapping)
        and (isinstance(spec_json.get("epochs"), int) or bool(spec_json.get("open_space")))
    )


def names(connection: Connection) -> dict[int, str]:
    """Return the sorted names of all studies by id."""
    rows = connection.execute(select(studies.c.study_id, studies.c.name).order_by(studies.c.name))
    return {row.study_id: row.name for row in rows}


def ids_of(connection: Connection, name: str) -> set[int]:
    """Return the ids of studies with that name, in Optuna's tables and ours."""
    taken = connection.execute(
        text(
            "SELECT study_id FROM public.studies WHERE study_name = :n"
            " UNION SELECT study_id FROM hpo.studies WHERE name = :n"
        ),
        {"n": name},
    ).scalars()
    return set(taken)


def rename(connection: Connection, study_id: int, name: str) -> None:
    """Set the name of a study in both sets of tables, and in the configurations of its own retrains."""
    before = names(connection)[study_id]
    for statement in (
        "UPDATE hpo.studies SET name = :n WHERE study_id = :s",
        "UPDATE public.studies SET study_name = :n WHERE study_id = :s",
    ):
        connection.execute(text(statement), {"s": study_id, "n": name})
    own = select(retrains.c.retrain_id, retrains.c.config).where(retrains.c.study_id == study_id)
    for row in connection.execute(own).all():
        if row.config.get("study") == before:
            # In Python, because the order of keys matters.
            changed = update(retrains).where(retrains.c.retrain_id == row.retrain_id)
            connection.execute(changed.values(config={**row.config, "study": name}))


def former_names(connection: Connection, study_id: int) -> list[str]:
    """Return the names that a study had before it was renamed, the last one last."""
    return list(attributes.texts(attributes.read(connection, study_id, FORMER_NAMES)))


def set_former_names(connection: Connection, study_id: int, former: Sequence[str]) -> None:
    """Replace the list of `former_names`."""
    attributes.write(connection, study_id, FORMER_NAMES, former)


def parameters(connection: Connection, study_id: int) -> list[str]:
    """Return the names of the parameters in the order of the study's space; empty for a study without a valid spec."""
    spec = connection.execute(
        select(studies.c.spec).where(studies.c.study_id == study_id)
    ).scalar_one_or_none()
    return list(spec["space"]) if spec is not None and is_spec(spec) else []


def progress(connection: Connection, study_id: int) -> Row[Any]:
    """Return how many trials of a study have been reserved (`trials`), are `open` and `finished`, and `has_agents`."""
    return connection.execute(
        text(
            "SELECT count(*) AS trials, count(*) FILTER (WHERE outcome IS NULL) AS open,"
            " count(*) FILTER (WHERE outcome = ANY(:counted)) AS finished,"
            " EXISTS (SELECT 1 FROM hpo.agents WHERE study_id = :s AND ended_at IS NULL"
            "   AND abs(extract(epoch FROM clock_timestamp() - seen_at)) < coalesce(lease_seconds, 120))"
            " AS has_agents FROM hpo.trials WHERE study_id = :s"
        ),
        {"s": study_id, "counted": list(COUNTED)},
    ).one()


def is_in_use(connection: Connection, study_id: int) -> bool:
    """Whether a trial was trained, or a living agent may train one."""
    trained = connection.scalar(
        text(
            "SELECT EXISTS (SELECT 1 FROM hpo.attempts JOIN hpo.trials USING (reservation_id)"
            " WHERE study_id = :s AND pid IS NOT NULL)"
        ),
        {"s": study_id},
    )
    return bool(trained) or bool(progress(connection, study_id).has_agents)


def has_results(connection: Connection, study_id: int) -> bool:
    """Whether a trial has completed an epoch or is decided, or a living agent may train one."""
    found = connection.scalar(
        text(
            "SELECT EXISTS (SELECT 1 FROM hpo.trials WHERE study_id = :s AND outcome IS NOT NULL) OR EXISTS"
            " (SELECT 1 FROM hpo.epochs JOIN hpo.trials USING (reservation_id) WHERE study_id = :s)"
        ),
        {"s": study_id},
    )
    return bool(found) or progress(connection, study_id).has_agents


def insert(
    connection: Connection, study_id: int, name: str, spec_json: Mapping[str, Any], trials: int
) -> None:
    """Store a study, unless another launch has stored it meanwhile."""
    connection.execute(
        text(
            "INSERT INTO hpo.studies (study_id, name, spec, budget)"
            " VALUES (:s, :n, CAST(:spec AS json), :b) ON CONFLICT DO NOTHING"
        ),
        {"s": study_id, "n": name, "spec": json.dumps(spec_json), "b": trials},
    )


def update_spec(
    connection: Connection, study_id: int, before: Mapping[str, Any], spec_json: Mapping[str, Any]
) -> bool:
    """Replace a spec; False if it is no longer `before`."""
    result = connection.execute(
        text(
            "UPDATE hpo.studies SET spec = CAST(:spec AS json) WHERE study_id = :s"
            " AND CAST(spec AS jsonb) IN (CAST(:before AS jsonb), CAST(:spec AS jsonb))"
        ),
        {"s": study_id, "spec": json.dumps(spec_json), "before": json.dumps(before)},
    )
    return bool(result.rowcount)


def read_desired_state(connection: Connection, study_id: int) -> DesiredState:
    """Return the desired state; `stop` for a deleted study, because no work is left."""
    state = connection.scalar(select(studies.c.desired_state).where(studies.c.study_id == study_id))
    return cast(DesiredState, state) if state is not None else "stop"


def set_desired_state(connection: Connection, study_id: int, state: DesiredState) -> DesiredState:
    """Set the desired state; returns the state before.

    Setting it to `run` resets the number of failures that count towards `max_failed`.
    """
    before = connection.scalar(
        select(studies.c.desired_state).where(studies.c.study_id == study_id).with_for_update(key_share=True)
    )
    # The clock may have been set back since the last decision.
    decided_at = select(func.max(trials.c.decided_at)).where(trials.c.study_id == study_id).scalar_subquery()
    reset = {"failures_since": func.greatest(func.clock_timestamp(), decided_at)} if state == "run" else {}
    connection.execute(
        update(studies).where(studies.c.study_id == study_id).values(desired_state=state, **reset)
    )
    return cast(DesiredState, before) if before is not None else "stop"
