"""The desired state of a study: run, pause or stop. Its agents poll it every few seconds."""

from __future__ import annotations

from typing import Literal, cast

from sqlalchemy import Connection, func, select, update

from storage.tables import studies

DesiredState = Literal["run", "pause", "stop"]


def resume(connection: Connection, study_id: int) -> DesiredState:
    """Set the state to `run`; returns the state before."""
    return set_desired_state(connection, study_id, "run")


def pause(connection: Connection, study_id: int) -> DesiredState:
    """Set the state to `pause`: every agent holds its trials at their next batch; returns the state before."""
    return set_desired_state(connection, study_id, "pause")


def stop(connection: Connection, study_id: int) -> DesiredState:
    """Set the state to `stop`: every agent checkpoints and releases its trials, and ends; returns the state before."""
    return set_desired_state(connection, study_id, "stop")


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
    reset = {"failures_since": func.clock_timestamp()} if state == "run" else {}
    connection.execute(
        update(studies).where(studies.c.study_id == study_id).values(desired_state=state, **reset)
    )
    return cast(DesiredState, before) if before is not None else "stop"
