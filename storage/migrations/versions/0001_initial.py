"""The first tables: studies, agents, trials, attempts, epochs and retrains."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

NOW = sa.text("clock_timestamp()")


def _time(
    name: str,
    nullable: bool = True,
    server_default: sa.TextClause | None = None,
    comment: str | None = None,
) -> sa.Column[object]:
    return sa.Column(
        name, sa.DateTime(timezone=True), nullable=nullable, server_default=server_default, comment=comment
    )


def upgrade() -> None:
    op.create_table(
        "studies",
        sa.Column("study_id", sa.Integer, autoincrement=False, nullable=False, comment="Optuna's study_id"),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("spec", JSONB, nullable=False, comment="hpo.spec.StudySpec as JSON"),
        sa.Column("budget", sa.Integer, nullable=False, comment="finished trials wanted in all"),
        sa.Column("control", sa.Text, nullable=False, server_default="run", comment="run, pause or stop"),
        sa.Column(
            "agents_seen",
            sa.Integer,
            nullable=False,
            server_default="0",
            comment="seeds each agent's sampler",
        ),
        _time("created_at", nullable=False, server_default=NOW),
        sa.PrimaryKeyConstraint("study_id", name="pk_studies"),
        sa.UniqueConstraint("name", name="uq_studies_name"),
        schema="hpo",
    )
    op.create_table(
        "agents",
        sa.Column("agent_id", sa.BigInteger, sa.Identity(), nullable=False),
        sa.Column("study_id", sa.Integer, nullable=False),
        sa.Column("ordinal", sa.Integer, nullable=False, comment="0 for the study's first agent"),
        sa.Column("host", sa.Text, nullable=False),
        sa.Column("pid", sa.Integer, nullable=False),
        sa.Column(
            "process",
            sa.Text,
            nullable=False,
            comment="boot, pid and start time: which process of the host",
        ),
        sa.Column("slots", sa.Integer, nullable=False),
        sa.Column("versions", JSONB, nullable=False, server_default="{}"),
        _time("started_at", nullable=False, server_default=NOW),
        _time("seen_at", nullable=False, server_default=NOW),
        _time("ended_at"),
        sa.PrimaryKeyConstraint("agent_id", name="pk_agents"),
        sa.ForeignKeyConstraint(
            ["study_id"], ["hpo.studies.study_id"], name="fk_agents_study_id", ondelete="CASCADE"
        ),
        schema="hpo",
    )
    op.create_index("ix_agents_study_id", "agents", ["study_id"], schema="hpo")
    op.create_table(
        "trials",
        sa.Column("token", sa.BigInteger, sa.Identity(), nullable=False),
        sa.Column("study_id", sa.Integer, nullable=False),
        sa.Column("ordinal", sa.Integer, nullable=False, comment="0 for the study's first reservation"),
        sa.Column("trial_id", sa.Integer, comment="Optuna's trial_id, once it has been created"),
        sa.Column("number", sa.Integer, comment="Optuna's trial number"),
        sa.Column("params", JSONB, comment="as sampled"),
        sa.Column("seed", sa.BigInteger, nullable=False),
        sa.Column("lost", sa.Integer, nullable=False, server_default="0", comment="attempts that were lost"),
        sa.Column("epochs", sa.Integer, nullable=False, server_default="0", comment="epochs completed"),
        sa.Column(
            "outcome", sa.Text, comment="complete, pruned, diverged, oom, bug, lost or hung; null while open"
        ),
        sa.Column("value", sa.Double, comment="the objective's metric after the last epoch"),
        sa.Column("error", sa.Text, comment="what went wrong, in one line"),
        sa.Column("traceback", sa.Text),
        sa.Column(
            "told",
            sa.Boolean,
            nullable=False,
            server_default=sa.text("false"),
            comment="Optuna has been told",
        ),
        _time("created_at", nullable=False, server_default=NOW),
        _time("decided_at"),
        sa.PrimaryKeyConstraint("token", name="pk_trials"),
        sa.UniqueConstraint("trial_id", name="uq_trials_trial_id"),
        sa.ForeignKeyConstraint(
            ["study_id"], ["hpo.studies.study_id"], name="fk_trials_study_id", ondelete="CASCADE"
        ),
        schema="hpo",
    )
    op.create_index("ix_trials_study_id", "trials", ["study_id", "outcome"], schema="hpo")
    op.create_table(
        "attempts",
        sa.Column("attempt_id", sa.BigInteger, sa.Identity(), nullable=False),
        sa.Column("token", sa.BigInteger, nullable=False),
        sa.Column("agent_id", sa.BigInteger, nullable=False),
        sa.Column("slot", sa.Integer, nullable=False),
        sa.Column("device", sa.Text, nullable=False),
        sa.Column("host", sa.Text, nullable=False),
        sa.Column("pid", sa.Integer, comment="the trainer's"),
        sa.Column(
            "resumed_from", sa.Integer, comment="epoch of the checkpoint it continued; 0: from scratch"
        ),
        sa.Column(
            "epochs",
            sa.Integer,
            nullable=False,
            server_default="0",
            comment="epochs trained by this attempt",
        ),
        sa.Column("outcome", sa.Text, comment="as in trials, or released or lost; null while it runs"),
        sa.Column("error", sa.Text),
        _time("started_at", nullable=False, server_default=NOW),
        _time("lease_until", nullable=False),
        _time("ended_at"),
        sa.PrimaryKeyConstraint("attempt_id", name="pk_attempts"),
        sa.ForeignKeyConstraint(
            ["token"], ["hpo.trials.token"], name="fk_attempts_token", ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["agent_id"], ["hpo.agents.agent_id"], name="fk_attempts_agent_id", ondelete="CASCADE"
        ),
        schema="hpo",
    )
    still_open = sa.text("ended_at IS NULL")
    op.create_index(
        "uq_attempts_open", "attempts", ["token"], unique=True, postgresql_where=still_open, schema="hpo"
    )
    op.create_index("ix_attempts_agent_id", "attempts", ["agent_id"], schema="hpo")
    op.create_index(
        "ix_attempts_lease_until", "attempts", ["lease_until"], postgresql_where=still_open, schema="hpo"
    )
    op.create_table(
        "attempt_logs",
        sa.Column("attempt_id", sa.BigInteger, autoincrement=False, nullable=False),
        sa.Column(
            "tail", sa.Text, nullable=False, comment="the last of what the attempt printed, bounded in size"
        ),
        sa.Column("bytes", sa.BigInteger, nullable=False, comment="printed in all"),
        _time("updated_at", nullable=False, server_default=NOW),
        sa.PrimaryKeyConstraint("attempt_id", name="pk_attempt_logs"),
        sa.ForeignKeyConstraint(
            ["attempt_id"],
            ["hpo.attempts.attempt_id"],
            name="fk_attempt_logs_attempt_id",
            ondelete="CASCADE",
        ),
        schema="hpo",
    )
    op.create_table(
        "epochs",
        sa.Column("token", sa.BigInteger, nullable=False),
        sa.Column("epoch", sa.Integer, nullable=False, comment="completed, counted from 1"),
        sa.Column("attempt_id", sa.BigInteger, nullable=False),
        sa.Column(
            "metrics", JSONB, nullable=False, comment="names to numbers; NaN and infinities as strings"
        ),
        sa.Column("seconds", sa.Double, nullable=False),
        _time("created_at", nullable=False, server_default=NOW),
        sa.PrimaryKeyConstraint("token", "epoch", name="pk_epochs"),
        sa.ForeignKeyConstraint(["token"], ["hpo.trials.token"], name="fk_epochs_token", ondelete="CASCADE"),
        sa.ForeignKeyConstraint(
            ["attempt_id"], ["hpo.attempts.attempt_id"], name="fk_epochs_attempt_id", ondelete="CASCADE"
        ),
        schema="hpo",
    )
    op.create_table(
        "retrains",
        sa.Column("retrain_id", sa.BigInteger, sa.Identity(), nullable=False),
        sa.Column("study_id", sa.Integer, nullable=False),
        sa.Column("config", JSONB, nullable=False, comment="the exported config it trained"),
        sa.Column("seeds", JSONB, nullable=False),
        sa.Column("metrics", JSONB, comment="what metrics.json holds; null until it has finished"),
        _time("started_at", nullable=False, server_default=NOW),
        _time("test_opened_at", comment="when the test set was first looked at"),
        _time("ended_at"),
        sa.PrimaryKeyConstraint("retrain_id", name="pk_retrains"),
        sa.ForeignKeyConstraint(
            ["study_id"], ["hpo.studies.study_id"], name="fk_retrains_study_id", ondelete="CASCADE"
        ),
        schema="hpo",
    )
    op.create_index("ix_retrains_study_id", "retrains", ["study_id"], schema="hpo")
