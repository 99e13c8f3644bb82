"""What a study's agents are told to do: run, pause or stop; each looks here every few seconds."""

from __future__ import annotations

from typing import Literal, cast

from sqlalchemy import Connection, func, select, update

from storage.tables import studies

DesiredState = Literal["run", "pause", "stop"]


def resume(connection: Connection, study_id: int) -> DesiredState:
    """Let the study run; returns what it was told before."""
    return set_desired_state(connection, study_id, "run")


def pause(connection: Connection, study_id: int) -> DesiredState:
    """Have every agent hold its trials at their next batch, and wait; returns what it was told before."""
    return set_desired_state(connection, study_id, "pause")


def stop(connection: Connection, study_id: int) -> DesiredState:
    """Have every agent checkpoint and release its trials, and end; returns what it was told before."""
    return set_desired_state(connection, study_id, "stop")


def read_desired_state(connection: Connection, study_id: int) -> DesiredState:
    """What the study is told; `stop` when it has been deleted, for then nothing is left to do."""
    told = connection.scalar(select(studies.c.desired_state).where(studies.c.study_id == study_id))
    return cast(DesiredState, told) if told is not None else "stop"


def set_desired_state(connection: Connection, study_id: int, state: DesiredState) -> DesiredState:
    """Tell the study; returns what it was told before.

    Whoever has it run knows what has failed so far, and wants to go on: it counts towards `max_failed` no more.
    """
    before = connection.scalar(
        select(studies.c.desired_state).where(studies.c.study_id == study_id).with_for_update(key_share=True)
    )
    forgiven = {"failures_since": func.clock_timestamp()} if state == "run" else {}
    connection.execute(
        update(studies).where(studies.c.study_id == study_id).values(desired_state=state, **forgiven)
    )
    return cast(DesiredState, before) if before is not None else "stop"
