"""The project's own tables, in the PostgreSQL schema `hpo`, next to Optuna's in `public`.

A row of `trials` is a reservation of a study's budget; `attempts` are its executions.
The migrations in `storage/migrations` create exactly these tables; a test compares the two.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Double,
    ForeignKey,
    Identity,
    Index,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
    text,
)
from sqlalchemy.dialects.postgresql import JSON, JSONB

SCHEMA = "hpo"

metadata = MetaData(
    schema=SCHEMA,
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "ix": "ix_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
    },
)

_NOW = text("clock_timestamp()")


def _refers(column: str, table: str, *, key: bool = False) -> Column[int]:
    """Return a column with the id of a row of `table`, whose deletion deletes the row with the column."""
    target = ForeignKey(f"{SCHEMA}.{table}.{column}", ondelete="CASCADE")
    kind = Integer if column == "study_id" else BigInteger
    return Column(column, kind, target, primary_key=key, autoincrement=False, nullable=False)


def _time(name: str, **options: object) -> Column[object]:
    return Column(name, DateTime(timezone=True), **options)  # type: ignore[arg-type]


studies = Table(
    "studies",
    metadata,
    Column("study_id", Integer, primary_key=True, autoincrement=False, comment="Optuna's study_id"),
    Column("name", Text, nullable=False, unique=True),
    Column("spec", JSON, nullable=False, comment="hpo.search.spec.StudySpec as JSON"),
    Column("budget", Integer, nullable=False, comment="finished trials wanted in all"),
    Column("desired_state", Text, nullable=False, server_default="run", comment="run, pause or stop"),
    Column(
        "agents_seen",
        Integer,
        nullable=False,
        server_default="0",
        comment="agents that have joined, which numbers them",
    ),
    _time("created_at", nullable=False, server_default=_NOW),
    _time(
        "failures_since",
        nullable=False,
        server_default=_NOW,
        comment="trials that failed from then on count towards max_failed",
    ),
    Column(
        "uid",
        Text,
        nullable=False,
        server_default=text("substr(replace(gen_random_uuid()::text, '-', ''), 1, 8)"),
        comment="tells studies of one name apart, in folders",
    ),
)

agents = Table(
    "agents",
    metadata,
    Column("agent_id", BigInteger, Identity(), primary_key=True),
    _refers("study_id", "studies"),
    Column("ordinal", Integer, nullable=False, comment="0 for the study's first agent"),
    Column("host", Text, nullable=False),
    Column("pid", Integer, nullable=False),
    Column("process", Text, nullable=False, comment="boot, pid and start time: which process of the host"),
    Column("slots", Integer, nullable=False),
    Column("versions", JSONB, nullable=False, server_default="{}"),
    _time("started_at", nullable=False, server_default=_NOW),
    _time("seen_at", nullable=False, server_default=_NOW),
    _time("ended_at"),
    Column(
        "lease_seconds",
        Double,
        comment="how long its leases are; renewed twelve times in that time. Null: not known",
    ),
    Index("ix_agents_study_id", "study_id"),
)

trials = Table(
    "trials",
    metadata,
    Column("reservation_id", BigInteger, Identity(), primary_key=True),
    _refers("study_id", "studies"),
    Column("ordinal", Integer, nullable=False, comment="0 for the study's first reservation"),
    Column("trial_id", Integer, unique=True, comment="Optuna's trial_id, once it has been created"),
    Column("number", Integer, comment="Optuna's trial number"),
    Column("params", JSON, comment="as sampled"),
    Column("seed", BigInteger, nullable=False),
    Column("lost", Integer, nullable=False, server_default="0", comment="attempts that were lost"),
    Column("epochs", Integer, nullable=False, server_default="0", comment="epochs completed"),
    Column(
        "outcome",
        Text,
        comment="complete, pruned, diverged, oom, bug, lost or hung; null while open",
    ),
    Column("value", Double, comment="the objective's metric after the last epoch"),
    Column("error", Text, comment="what went wrong, in one line"),
    Column("traceback", Text),
    Column(
        "told_optuna", Boolean, nullable=False, server_default=text("false"), comment="Optuna has been told"
    ),
    _time("created_at", nullable=False, server_default=_NOW),
    _time("decided_at"),
    Column(
        "paused_epoch",
        Integer,
        comment="epoch of the rung at which freeze-thaw has paused it; null: it goes on",
    ),
    Column("paused_score", Double, comment="its score at that rung, as in rungs"),
    Index("ix_trials_study_id", "study_id", "outcome"),
    Index("ix_trials_ordinal", "study_id", "ordinal"),
    Index(
        "ix_trials_open",
        "study_id",
        "ordinal",
        postgresql_where=text("outcome IS NULL AND paused_epoch IS NULL"),
    ),
    Index("ix_trials_decided_at", "study_id", "decided_at"),
    Index("ix_trials_value", "study_id", "value", postgresql_where=text("outcome = 'complete'")),
    Index(
        "ix_trials_paused",
        "study_id",
        "paused_epoch",
        "paused_score",
        "reservation_id",
        postgresql_where=text("paused_epoch IS NOT NULL AND outcome IS NULL"),
    ),
)

rungs = Table(
    "rungs",
    metadata,
    _refers("reservation_id", "trials"),
    Column("epoch", Integer, nullable=False, comment="after which freeze-thaw compares trials"),
    _refers("study_id", "studies"),
    Column(
        "score",
        Double,
        nullable=False,
        comment="value up to that epoch, negated if larger is better; infinity: not finite",
    ),
    PrimaryKeyConstraint("reservation_id", "epoch"),
    Index("ix_rungs_study_id", "study_id", "epoch", "score", "reservation_id"),
)

attempts = Table(
    "attempts",
    metadata,
    Column("attempt_id", BigInteger, Identity(), primary_key=True),
    _refers("reservation_id", "trials"),
    _refers("agent_id", "agents"),
    Column("slot", Integer, nullable=False),
    Column("device", Text, nullable=False),
    Column("host", Text, nullable=False),
    Column("pid", Integer, comment="the trainer's"),
    Column("resumed_from", Integer, comment="epoch of the checkpoint it continued; 0: from scratch"),
    Column("epochs", Integer, nullable=False, server_default="0", comment="epochs trained by this attempt"),
    Column("outcome", Text, comment="as in trials, or released or lost; null while it runs"),
    Column("error", Text),
    _time("started_at", nullable=False, server_default=_NOW),
    _time("lease_until", nullable=False),
    _time("ended_at"),
    _time("held_at", comment="since when its trainer waits in a paused study"),
    Column("held_seconds", Double, comment="seconds that its trainer waited in earlier pauses"),
    # Fencing depends on this: a trial has at most one live attempt.
    Index("uq_attempts_open", "reservation_id", unique=True, postgresql_where=text("ended_at IS NULL")),
    Index("ix_attempts_agent_id", "agent_id"),
    Index("ix_attempts_lease_until", "lease_until", postgresql_where=text("ended_at IS NULL")),
)

attempt_logs = Table(
    "attempt_logs",
    metadata,
    _refers("attempt_id", "attempts", key=True),
    Column("tail", Text, nullable=False, comment="the last of what the attempt printed, bounded in size"),
    Column("bytes", BigInteger, nullable=False, comment="printed in all"),
    _time("updated_at", nullable=False, server_default=_NOW),
)

epochs = Table(
    "epochs",
    metadata,
    _refers("reservation_id", "trials"),
    Column("epoch", Integer, nullable=False, comment="completed, counted from 1"),
    _refers("attempt_id", "attempts"),
    Column("metrics", JSONB, nullable=False, comment="names to numbers; NaN and infinities as strings"),
    Column("seconds", Double, nullable=False),
    _time("created_at", nullable=False, server_default=_NOW),
    PrimaryKeyConstraint("reservation_id", "epoch"),
)

retrains = Table(
    "retrains",
    metadata,
    Column("retrain_id", BigInteger, Identity(), primary_key=True),
    _refers("study_id", "studies"),
    Column("config", JSON, nullable=False, comment="the exported config it trained"),
    Column("seeds", JSONB, nullable=False),
    Column("metrics", JSONB, comment="what metrics.json holds; null until it has finished"),
    _time("started_at", nullable=False, server_default=_NOW),
    _time("test_opened_at", comment="when the test set was first looked at"),
    _time("ended_at"),
    Index("ix_retrains_study_id", "study_id"),
)
